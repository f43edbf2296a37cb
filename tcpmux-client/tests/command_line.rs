//! The program as a shell sees it.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
};

fn client(arguments: &[&str], input: &str) -> Output {
    client_with(None, arguments, input)
}

fn client_with(variable: Option<(&str, &str)>, arguments: &[&str], input: &str) -> Output {
    start(variable, arguments, input).wait_with_output().expect("the program ends")
}

fn start(variable: Option<(&str, &str)>, arguments: &[&str], input: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpmux-client"));
    for (name, _) in std::env::vars() {
        if name.starts_with("TCPMUX_") || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .envs(variable)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // A program that ends without reading closes the pipe.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    child
}

fn code_and_text(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code().expect("no signal ended it"), String::from_utf8_lossy(&text).into_owned())
}

fn enrolment_string(server: &str) -> (String, String) {
    let passcode = model::Passcode::from_random([9; 20]).reveal();
    (format!("tcpmux://{server}/?ca=sha256:{}&otp={passcode}&device=cam-01", "ab".repeat(32)), passcode)
}

#[test]
fn the_version_is_told() {
    let (code, text) = code_and_text(&client(&["--version"], ""));
    assert_eq!((code, text.trim()), (0, concat!("tcpmux-client ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_passcode_in_the_arguments_is_refused_and_not_repeated() {
    let (string, passcode) = enrolment_string("127.0.0.1:1");
    let (code, text) = code_and_text(&client(&["enroll", &string], ""));
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("enroll -") && !text.contains(&passcode), "{text}");
}

#[test]
fn a_string_that_cannot_be_read_is_a_usage_error_that_keeps_the_passcode() {
    let (string, passcode) = enrolment_string("127.0.0.1:1");
    let state = tempfile::tempdir().unwrap();
    let input = string.replace("ca=sha256", "ca=md5");
    let output = client(&["enroll", "-", "--state", state.path().to_str().unwrap()], &input);
    let (code, text) = code_and_text(&output);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("sha256:") && !text.contains(&passcode), "{text}");
}

#[test]
fn a_name_that_does_not_exist_is_a_network_error() {
    let (string, passcode) = enrolment_string("no-such-host.invalid:7443");
    let state = tempfile::tempdir().unwrap();
    let output = client(&["enroll", "-", "--state", state.path().to_str().unwrap()], &string);
    let (code, text) = code_and_text(&output);
    assert_eq!(code, 6, "{text}");
    assert!(text.contains("no-such-host.invalid") && !text.contains(&passcode), "{text}");
}

#[test]
fn a_bad_configuration_exits_with_78_and_names_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("client.toml");
    std::fs::write(&file, "alow_lan = true\n").unwrap();
    let (code, text) = code_and_text(&client(&["run", "--config", file.to_str().unwrap()], ""));
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("alow_lan"), "{text}");
    let (code, text) = code_and_text(&client(&["run", "--service", "web=http://10.0.0.1"], ""));
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("allow_lan"), "{text}");
    let (code, _) = code_and_text(&client(&["--log-level", "a=b=c", "run"], ""));
    assert_eq!(code, 78);
}

#[test]
fn a_flag_or_a_variable_names_the_address_to_leave_by() {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let (string, _) = enrolment_string(&door.local_addr().unwrap().to_string());
    let state = tempfile::tempdir().unwrap();
    let enrol = |variable: Option<&str>, flag: &[&str]| {
        let words = [&["enroll", "-", "--state", state.path().to_str().unwrap()], flag].concat();
        start(variable.map(|address| (BIND, address)), &words, &string)
    };
    // No machine has the first address (RFC 5737), so whoever heeds it does not get out. The command line wins.
    let (nobodys, own) = ("192.0.2.7", "127.0.0.9");
    let cases: [(Option<&str>, &[&str]); 3] =
        [(Some(nobodys), &[]), (None, &["--bind", nobodys]), (Some(own), &["--bind", nobodys])];
    for (variable, flag) in cases {
        let mut enrolling = enrol(variable, flag);
        let mut said = String::new();
        BufReader::new(enrolling.stderr.take().unwrap()).read_line(&mut said).unwrap();
        enrolling.kill().unwrap();
        enrolling.wait().unwrap();
        assert!(said.contains("not from 192.0.2.7 (see `bind`)"), "{variable:?} {flag:?}: {said}");
    }
    let cases: [(Option<&str>, &[&str]); 3] =
        [(Some(own), &[]), (None, &["--bind", own]), (Some(nobodys), &["--bind", own])];
    for (variable, flag) in cases {
        let mut enrolling = enrol(variable, flag);
        let (_, caller) = door.accept().unwrap();
        enrolling.kill().unwrap();
        enrolling.wait().unwrap();
        assert_eq!(caller.ip().to_string(), own, "{variable:?} {flag:?}");
    }
}

#[test]
fn what_is_no_address_to_leave_by_is_a_usage_error_that_says_what_is_meant() {
    let variable = |words: &[&str]| client_with(Some((BIND, "eth0")), words, "");
    for output in [
        variable(&["enroll", "-"]),
        variable(&["run"]),
        client(&["enroll", "-", "--bind", "eth0"], ""),
        client(&["run", "--bind", "eth0"], ""),
    ] {
        let (code, text) = code_and_text(&output);
        assert_eq!(code, 2, "{text}");
        for words in ["'eth0'", "--bind", "give an address of this machine, as in 192.0.2.7"] {
            assert!(text.contains(words), "{text}");
        }
    }
}

#[test]
fn without_an_identity_every_command_says_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    for command in ["run", "status", "doctor", "reset"] {
        let (code, text) = code_and_text(&client(&[command, "--state", state, "--no-local-api"], ""));
        assert_eq!(code, 1, "{command}: {text}");
        assert!(text.contains("tcpmux-client enroll"), "{command}: {text}");
    }
}

#[test]
fn claim_prints_the_code_alone_or_says_why_there_is_none() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().to_str().unwrap();
    let claim =
        |more: &[&str]| client(&[&["claim", "--state", directory, "--no-local-api"], more].concat(), "");
    let (code, text) = code_and_text(&claim(&[]));
    assert!(code == 1 && text.contains("enrol first"), "{code} {text}");
    let shown = model::ClaimCode::from_random([3; 16]).reveal();
    for (file, more) in [("claim_code", vec![]), ("other", vec!["--claim-code", "other"])] {
        let path = state.path().join(file);
        runtime::private_file::replace(&path, shown.expose().as_bytes()).unwrap();
        let named: Vec<_> = more.iter().map(|word| word.replace("other", path.to_str().unwrap())).collect();
        let named: Vec<_> = named.iter().map(String::as_str).collect();
        let output = claim(&named);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", shown.expose()));
        std::fs::remove_file(path).unwrap();
    }
    std::fs::write(state.path().join("claim_code"), shown.expose()).unwrap();
    let (code, text) = code_and_text(&claim(&[]));
    assert!(code == 1 && text.contains("chmod 600") && !text.contains(shown.expose()), "{code} {text}");
    let (code, text) = code_and_text(&client(&["claim", "--help"], ""));
    assert!(code == 0 && text.contains("/v1/claims") && text.contains("--claim-code"), "{code} {text}");
}

const BIND: &str = "TCPMUX_CLIENT_BIND";
