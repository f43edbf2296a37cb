//! From a passcode to a certificate, its successors and its end.
#![allow(unused)]

mod applicant;
mod by_hand;
mod crashes;
mod daemon;
mod hostile_http;
mod hostile_passcodes;
mod hostile_tls;
mod interceptor;
mod linting;
mod moved_clock;
mod passcodes;
mod renewal;
mod strongswan;
mod unavailable;
