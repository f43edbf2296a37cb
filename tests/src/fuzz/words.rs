//! Names, codes, moments and addresses, as people and programs write them.

use std::{fmt::Display, net::IpAddr, str::FromStr};

use model::{
    ClaimCode, DeviceId, DeviceName, Fingerprint, Level, Moment, Passcode, ReportId, Serial, ServiceName,
    Tag, TenantName, Ticket, UserId, host_label, parse_duration, read_host_label,
};
use runtime::http::Destinations;
use tcpmux_client::{EnrolmentString, LocalTarget, Proxies, ServerAddress, ServiceSpec, Services};
use tcpmux_proto::{Destination, LocalAuthority};

/// Every name and code: what is read and written again is the same name.
pub(super) fn word(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(code) = text.parse::<Passcode>() {
        let shown = code.reveal();
        assert_eq!(
            shown.parse::<Passcode>().expect("what is shown is read").secret_bytes(),
            code.secret_bytes()
        );
        assert!(!format!("{code:?}").contains(&shown));
    }
    if let Ok(code) = text.parse::<ClaimCode>() {
        let shown = code.reveal();
        let again: ClaimCode = shown.expose().parse().expect("what is shown is read");
        assert_eq!(again.letters(), code.letters());
    }
    if let Ok(ticket) = text.parse::<Ticket>() {
        let again: Ticket = ticket.reveal().parse().expect("what is shown is read");
        assert_eq!(again.secret_bytes(), ticket.secret_bytes());
    }
    if let (Ok(device), Ok(service)) = (text.parse::<DeviceId>(), "web".parse::<ServiceName>())
        && let Some(label) = host_label(&device, &service)
    {
        // A name with `--` in it would be read as a service and a device.
        let read = read_host_label(&label);
        assert!(read.as_ref().is_none_or(|(found, as_service)| *found == device && *as_service == service));
    }
    if let Some((device, service)) = read_host_label(text) {
        assert_eq!(
            host_label(&device, &service).map(|label| read_host_label(&label)),
            Some(Some((device, service)))
        );
    }
    same::<DeviceId>(text);
    same::<ServiceName>(text);
    same::<TenantName>(text);
    same::<Tag>(text);
    same::<UserId>(text);
    same::<Fingerprint>(text);
    same::<Serial>(text);
    if let Ok(id) = text.parse::<ReportId>() {
        assert_eq!(id.as_str(), text);
    }
    if let Ok(level) = text.parse::<Level>() {
        assert_eq!(level.as_str(), text);
    }
    if let Ok(name) = text.parse::<DeviceName>() {
        assert!(!name.as_str().chars().any(char::is_control));
    }
    if let Ok(destination) = text.parse::<Destination>() {
        assert_eq!(destination.as_str(), text);
    }
    if let Ok(authority) = text.parse::<LocalAuthority>() {
        assert_eq!(authority.as_str(), text);
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\,".contains(&byte)));
    }
}

/// Moments and lengths of time.
pub(super) fn moment(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(moment) = text.parse::<Moment>() {
        let shown = moment.to_string();
        assert_eq!(shown.parse::<Moment>(), Ok(moment), "{shown}");
    }
    if let Ok(moment) = serde_json::from_slice::<Moment>(bytes) {
        let shown = serde_json::to_vec(&moment).expect("a moment is JSON");
        assert_eq!(serde_json::from_slice::<Moment>(&shown).ok(), Some(moment));
    }
    if let Ok(length) = parse_duration(text) {
        assert_eq!(parse_duration(&format!("{}ms", length.as_millis())), Ok(length));
    }
}

/// The string that an operator hands out: read or refused, and never with the secret in the refusal.
pub(super) fn enrolment_string(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<EnrolmentString>() {
        Ok(read) => {
            let (server, ca, otp) = (&read.server, &read.ca, read.passcode.reveal());
            let device = read.device.as_ref().map(|id| format!("&device={id}")).unwrap_or_default();
            let again = format!("tcpmux://{server}/?ca=sha256:{ca}&otp={otp}{device}");
            let again: EnrolmentString = again.parse().expect("what is read can be handed on");
            assert_eq!((&again.server, &again.ca, &again.device), (server, ca, &read.device));
            assert_eq!(again.passcode.reveal(), otp);
            assert!(!format!("{read:?}").contains(&otp));
        }
        Err(error) => {
            let told = error.to_string();
            let shown = text.split('&').filter_map(|pair| pair.rsplit_once("otp=")).map(|(_, secret)| secret);
            let secrets = shown
                .filter(|secret| secret.len() >= 24 && secret.bytes().all(|b| b.is_ascii_alphanumeric()));
            assert!(secrets.clone().all(|secret| !told.contains(secret)), "{told}");
        }
    }
    if let Ok(address) = text.parse::<ServerAddress>() {
        assert_eq!(address.to_string().parse::<ServerAddress>().as_ref(), Ok(&address));
        assert!(address.port() > 0);
    }
    let _ = Proxies::through(text);
}

/// Where a local service listens: without the owner's word nothing but this device.
pub(super) fn local_target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(target) = text.parse::<LocalTarget>() {
        assert!(target.addresses().iter().all(|address| address.port() > 0));
    }
    let Ok(spec) = text.parse::<ServiceSpec>() else { return };
    if let Ok(services) = Services::new(&[spec], false, None) {
        for service in services.iter() {
            for address in service.target.addresses() {
                assert!(address.ip().is_loopback(), "{text} leads to {address}");
            }
        }
    }
}

/// What webhooks may call: no address of a network that is not public, in whatever way it is written.
pub(super) fn destination(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let destinations = Destinations::allowing([]);
    let Ok(url) = destinations.read(text) else { return };
    assert_eq!(url.scheme(), "https");
    let host = url.host_str().expect("what is called has a host");
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        assert!(destinations.permits(address), "{text} leads to {address}");
    }
    // Written out it may be too long to be read again.
    let again = destinations.read(url.as_str());
    assert!(again.is_err() && url.as_str().len() > text.len() || again.as_ref() == Ok(&url), "{url}");
}

fn same<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let shown = value.to_string();
        let again = shown.parse::<T>().ok().expect("what is shown is read");
        assert_eq!(again.to_string(), shown);
    }
}
