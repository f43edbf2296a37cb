//! From a passcode to a certificate, its successors and its end.
#![allow(unused)]

mod applicant;
mod by_hand;
mod linting;
mod passcodes;
mod strongswan;
