//! From a passcode to a certificate, its successors and its end.
#![allow(unused)]

mod applicant;
mod by_hand;
mod crashes;
mod hostile_http;
mod hostile_passcodes;
mod hostile_tls;
mod linting;
mod passcodes;
mod strongswan;
