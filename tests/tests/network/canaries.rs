//! Canaries: what must be nowhere, where it must not be, and the search for it.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use tests::{Finished, Process};

/// What must be nowhere: each secret with the forms in which it could appear.
#[derive(Default)]
pub(super) struct Secrets(Vec<(String, Vec<Vec<u8>>)>);

/// Where it must not be: each place with all of its bytes.
#[derive(Default)]
pub(super) struct Places(Vec<(String, Vec<u8>)>);

impl Secrets {
    pub(super) fn text(&mut self, what: &str, text: &str) {
        assert!(text.len() >= 16, "{what} is long enough not to appear by chance");
        let forms =
            [text.to_owned(), text.to_lowercase(), BASE64_STANDARD.encode(text), model::hex(text.as_bytes())];
        self.0.push((what.into(), forms.map(String::into_bytes).into()));
    }

    /// A passcode, also as the twenty octets that it stands for and as HTTP Basic carries it.
    pub(super) fn passcode(&mut self, what: &str, device: &str, passcode: &str) {
        self.text(what, passcode);
        let forms = &mut self.0.last_mut().expect("just pushed").1;
        for user in [device, ""] {
            forms.push(BASE64_STANDARD.encode(format!("{user}:{passcode}")).into_bytes());
        }
        if let Ok(passcode) = passcode.parse::<model::Passcode>() {
            let octets = passcode.secret_bytes();
            forms.extend([octets.to_vec(), model::hex(octets).into_bytes()]);
            // Last, so that the control can plant it.
            forms.push(octets.to_vec());
        }
    }

    /// A signed token: whoever has the signature and what was signed has it, so the signature alone counts.
    pub(super) fn token(&mut self, what: &str, token: &str) {
        self.text(what, token);
        let signature = token.rsplit('.').next().unwrap().to_owned();
        self.0.last_mut().expect("just pushed").1.push(signature.into_bytes());
    }

    /// A private key in a PEM file: the two lines with its scalar (the third is the public key's alone), and
    /// the scalar itself.
    pub(super) fn key_file(&mut self, what: &str, file: &Path) {
        let text = std::fs::read_to_string(file).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('-')).take(2);
        let mut forms: Vec<Vec<u8>> = lines.map(|line| line.as_bytes().to_vec()).collect();
        let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap() else {
            panic!("{what} is not PKCS #8")
        };
        // In PKCS #8 for an elliptic curve the scalar follows this mark of version and length.
        let der = der.secret_pkcs8_der();
        let (mark, length) = if text.len() > 270 { ([2, 1, 1, 4, 48], 48) } else { ([2, 1, 1, 4, 32], 32) };
        let at =
            der.windows(5).position(|window| window == mark).unwrap_or_else(|| panic!("{what}: no scalar"));
        let scalar = &der[at + 5..at + 5 + length];
        forms.extend([
            scalar.to_vec(),
            model::hex(scalar).into_bytes(),
            BASE64_STANDARD.encode(scalar).into_bytes(),
        ]);
        self.0.push((what.into(), forms));
    }

    /// What they are, each with the form in which it is shown.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(what, forms)| (what.as_str(), forms[0].as_slice()))
    }

    pub(super) fn raw(&self, what: &str) -> Vec<u8> {
        let (_, forms) = self.0.iter().find(|(name, _)| name == what).expect("it is among them");
        forms.last().expect("it has forms").clone()
    }
}

impl Places {
    pub(super) fn text(&mut self, name: &str, text: String) {
        self.0.push((name.into(), text.into_bytes()));
    }

    pub(super) fn command(&mut self, name: &str, finished: &Finished) {
        self.text(name, finished.stdout.clone() + &finished.stderr);
    }

    /// A file; one that is not there has nothing in it.
    pub(super) fn file(&mut self, name: &str, file: &Path) {
        self.0.push((name.into(), std::fs::read(file).unwrap_or_default()));
    }

    pub(super) fn process(&mut self, name: &str, process: &Process) {
        self.text(name, process.command_line());
    }

    pub(super) fn size(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    pub(super) fn says(&self, name: &str, text: &str) -> bool {
        let place = self.0.iter().find(|(found, _)| found == name).expect("it is among them");
        String::from_utf8_lossy(&place.1).contains(text)
    }

    /// Where something is that looks like a signed token, whosever it is.
    pub(super) fn tokens(&self) -> Vec<&str> {
        let found = self.0.iter().filter(|(_, bytes)| looks_like_a_token(bytes));
        found.map(|(place, _)| place.as_str()).collect()
    }

    /// Which secret is where. Text in any other encoding is found by its forms.
    pub(super) fn search(&self, secrets: &Secrets) -> Vec<String> {
        let mut found = vec![];
        for (place, bytes) in &self.0 {
            for (what, forms) in &secrets.0 {
                if forms.iter().any(|form| contains(bytes, form)) {
                    found.push(format!("{what} is in {place}"));
                }
            }
        }
        found
    }
}

/// Whether there is anything that looks like a signed token: the header of one in base64, and a dot.
fn looks_like_a_token(bytes: &[u8]) -> bool {
    bytes.windows(3).enumerate().filter(|(_, mark)| *mark == b"eyJ").any(|(at, _)| {
        let rest = &bytes[at..];
        let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"-_".contains(byte));
        end.is_some_and(|end| end > 20 && rest[end] == b'.')
    })
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|byte| *byte == needle[0]) {
        if haystack[from + at..].starts_with(needle) {
            return true;
        }
        from += at + 1;
    }
    false
}
