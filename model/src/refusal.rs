//! A no that may be said aloud. A fault, which may not, is another type in every room.

use std::{borrow::Cow, fmt};

/// The stable code of a refusal: what clients and runbooks compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Ambiguous or malformed request.
    BadRequest,
    /// No token.
    TokenMissing,
    /// Token past its end.
    TokenExpired,
    /// Token for another audience or of another type.
    TokenAudience,
    /// Token of an unknown key or issuer, or a signature that does not verify.
    TokenUnknownKey,
    /// Body too large.
    TooLarge,
    /// This host name is not ours.
    WrongHost,
    /// No grant, or no such thing: the same answer.
    NotGranted,
    /// The level or the service is not in the grant.
    LevelOrService,
    /// Request head too large.
    HeadersTooLarge,
    /// There is no such route, or it takes other methods.
    NoSuchRoute,
    /// The thing asked for does not exist.
    NotFound,
    /// It conflicts with what is.
    Conflict,
    /// It was changed since the caller read it.
    PreconditionFailed,
    /// The caller has to say which state is to be changed.
    PreconditionMissing,
    /// Too many attempts.
    TooMany,
    /// Media type or encoding not understood.
    MediaType,
    /// Not possible just now; try again.
    Unavailable,
    /// Something here is broken; the log knows, the caller need not.
    Internal,
    /// Device known and granted, not connected.
    DeviceOffline,
    /// Tunnel lost before the response head.
    TunnelLost,
    /// The device does not expose the service.
    UnknownService,
    /// The device's local service refused, or broke HTTP.
    ServiceRefused,
    /// No answer in time.
    TimedOut,
    /// Too many streams on this device.
    TooManyStreams,
    /// This server is draining.
    Draining,
}

impl Code {
    /// The text of the code, as in `TMX-3001`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "TMX-4000",
            Self::TokenMissing => "TMX-4001",
            Self::TokenExpired => "TMX-4002",
            Self::TokenAudience => "TMX-4003",
            Self::TokenUnknownKey => "TMX-4004",
            Self::NoSuchRoute => "TMX-4005",
            Self::PreconditionFailed => "TMX-4012",
            Self::TooLarge => "TMX-4013",
            Self::MediaType => "TMX-4015",
            Self::WrongHost => "TMX-4021",
            Self::PreconditionMissing => "TMX-4028",
            Self::TooMany => "TMX-4029",
            Self::NotGranted => "TMX-4030",
            Self::LevelOrService => "TMX-4031",
            Self::NotFound => "TMX-4040",
            Self::Conflict => "TMX-4009",
            Self::HeadersTooLarge => "TMX-4043",
            Self::Unavailable => "TMX-5003",
            Self::Internal => "TMX-5000",
            Self::DeviceOffline => "TMX-3001",
            Self::TunnelLost => "TMX-3002",
            Self::UnknownService => "TMX-3003",
            Self::ServiceRefused => "TMX-3004",
            Self::TimedOut => "TMX-3005",
            Self::TooManyStreams => "TMX-3006",
            Self::Draining => "TMX-3010",
        }
    }

    /// The HTTP status that this code has everywhere but where the contract says otherwise.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::TokenMissing | Self::TokenExpired | Self::TokenAudience | Self::TokenUnknownKey => 401,
            Self::NotGranted | Self::LevelOrService => 403,
            Self::NoSuchRoute | Self::NotFound | Self::UnknownService => 404,
            Self::Conflict => 409,
            Self::PreconditionFailed => 412,
            Self::TooLarge => 413,
            Self::MediaType => 415,
            Self::WrongHost => 421,
            Self::PreconditionMissing => 428,
            Self::TooMany => 429,
            Self::HeadersTooLarge => 431,
            Self::Internal => 500,
            Self::TunnelLost | Self::ServiceRefused => 502,
            Self::Unavailable | Self::DeviceOffline | Self::TooManyStreams | Self::Draining => 503,
            Self::TimedOut => 504,
        }
    }
}

/// A no, with its reason in words that a caller may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of no.
    pub code: Code,
    /// One sentence that names the cause and, where there is one, the remedy. No secret, no internals.
    pub detail: Cow<'static, str>,
    /// After how many seconds a repeat makes sense.
    pub retry_after: Option<u32>,
    /// A word for programs where one code has several causes.
    pub reason: Option<&'static str>,
    /// An HTTP status other than [`Code::status`], where the contract asks for one.
    pub status: Option<u16>,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), retry_after: None, reason: None, status: None }
    }

    /// The same, worth repeating after some seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same with a word for programs.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The same under another HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The HTTP status to answer with.
    pub fn http_status(&self) -> u16 {
        self.status.unwrap_or_else(|| self.code.status())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl std::error::Error for Refusal {}
