//! Rows of a table: what it is, the request, the word of the answer.

use ca::CertificateRequest;

/// The word for a request, `ok` for one that is taken.
pub(crate) fn word(der: &[u8]) -> &'static str {
    match CertificateRequest::parse(der) {
        Ok(_) => "ok",
        Err(error) => {
            assert!(error.to_string().len() > 20, "{error} is no sentence");
            error.word()
        }
    }
}

/// Holds each request to its word.
#[track_caller]
pub(crate) fn table(rows: &[(&str, Vec<u8>, &str)]) {
    for (what, der, expected) in rows {
        assert_eq!(word(der), *expected, "{what}: {:?}", CertificateRequest::parse(der).err());
    }
}
