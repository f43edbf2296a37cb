//! `tcpmux-client enroll`: the first certificate.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
};

use model::{DeviceId, Passcode, Secret};
use runtime::Clock;
use tcpmux_client::{
    EnrollRequest, EnrolmentString, Proxies, StateDirectory, TrustedTime, WayOut, build_time,
    enroll as enrol_device, renewal_time,
};

use crate::{
    cli::Enroll,
    outcome::{BAD_CONFIGURATION, Failure, USAGE, say},
};

pub(crate) async fn enroll(arguments: Enroll) -> Result<u8, Failure> {
    let request = request(arguments)?;
    let time = TrustedTime::new(Clock::system(), build_time());
    let identity = enrol_device(&request, &time).await?;
    let device = identity.device.as_ref().map_or("(no name)", |device| device.as_str());
    let facts = &identity.certificate;
    say(format_args!("  server    {}, CA fingerprint matches", identity.server));
    say(format_args!(
        "  key       P-256, {} (never leaves this device)",
        request.state.path().join("key.pem").display()
    ));
    say(format_args!(
        "  cert      {device}  serial {}  valid to {}, renews itself from {}",
        facts.serial,
        day(&facts.not_after.rfc3339()),
        day(&renewal_time(facts).rfc3339())
    ));
    say("Done. Next: tcpmux-client run --service web=http://127.0.0.1:8080");
    Ok(0)
}

fn request(arguments: Enroll) -> Result<EnrollRequest, Failure> {
    let usage = |message: String| Failure::new(USAGE, message);
    let proxies = Proxies::from_environment().map_err(|error| Failure::new(BAD_CONFIGURATION, error))?;
    let way_out = WayOut { proxies, from: arguments.bind };
    let state = StateDirectory::at(arguments.state);
    let string = match (arguments.source.as_deref(), arguments.server, arguments.ca, arguments.passcode_file)
    {
        (Some("-"), ..) => read_string()?,
        (Some(_), ..) => {
            return Err(usage(
                "a passcode is never taken from the command line, where every user of the machine can read it; \
                 write `tcpmux-client enroll -` and give the string on standard input"
                    .into(),
            ));
        }
        (None, Some(server), Some(ca), Some(file)) => {
            EnrolmentString { server, ca, passcode: read_passcode(&file)?, device: None }
        }
        _ => return Err(usage("give `-`, or --server, --ca and --passcode-file".into())),
    };
    let EnrolmentString { server, ca, passcode, device } = string;
    let device = match (device, arguments.device) {
        (Some(bound), Some(asked)) if bound != asked => {
            return Err(usage(format!("the enrolment string is for {bound}, not for {asked}")));
        }
        (bound, asked) => bound.or(asked),
    };
    let suggestion = if device.is_some() { None } else { host_name() };
    Ok(EnrollRequest { server, ca, passcode, device, suggestion, state, way_out })
}

fn read_string() -> Result<EnrolmentString, Failure> {
    let text = read_line(std::io::stdin(), "standard input")?;
    text.expose().parse().map_err(|error| Failure::new(USAGE, error))
}

fn read_passcode(file: &Path) -> Result<Passcode, Failure> {
    let text = if file == Path::new("-") {
        read_line(std::io::stdin(), "standard input")?
    } else {
        let opened = std::fs::File::open(file)
            .map_err(|error| Failure::new(USAGE, format!("cannot read {}: {error}", file.display())))?;
        read_line(opened, &file.display().to_string())?
    };
    text.expose().trim().parse().map_err(|error| Failure::new(USAGE, format!("{}: {error}", file.display())))
}

/// The first line: a person who pastes it need not know how to end the input.
fn read_line(from: impl Read, name: &str) -> Result<Secret<String>, Failure> {
    let mut text = String::new();
    match BufReader::new(from.take(LONGEST_INPUT)).read_line(&mut text) {
        Ok(_) => Ok(Secret::new(text)),
        Err(error) => Err(Failure::new(USAGE, format!("cannot read {name}: {error}"))),
    }
}

/// The host name, where it can be a device's.
fn host_name() -> Option<DeviceId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    text.trim().split('.').next()?.to_ascii_lowercase().parse().ok()
}

fn day(rfc3339: &str) -> &str {
    rfc3339.split('T').next().unwrap_or(rfc3339)
}

const LONGEST_INPUT: u64 = 4096;
