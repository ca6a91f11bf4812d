//! Why a message is refused: a closed set, so that a metric, a log line and an answer can be made from each.
//!
//! A request that is refused is the client's fault: answer [`Reject::status`] and close. A response that is refused is
//! the endpoint's fault: the caller answers 502 and closes that connection; the status here does not apply to it.

use http::StatusCode;

/// Why a message is refused. No variant carries bytes of the message; `line` counts from 1, the start line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// A CR that no LF follows.
    #[error("bare CR at line {line} of the head")]
    BareCarriageReturn {
        /// Line of the head or of the trailer section.
        line: usize,
    },
    /// A body is longer or shorter than its head announced.
    #[error("the body does not have the length that its head announced")]
    BodyLength,
    /// A LF that no CR precedes, in a head or a trailer section.
    #[error("bare LF in the head; lines end with CRLF")]
    BareLineFeed,
    /// CONNECT is not offered here.
    #[error("CONNECT is not offered here")]
    ConnectNotAllowed,
    /// The other side broke the rules of HTTP/2.
    #[error("the endpoint broke the rules of HTTP/2")]
    Http2,
    /// More interim replies than any service has use for.
    #[error("too many interim (1xx) replies before a final one")]
    InterimTooMany,
    /// A path that two readers could take for two paths.
    #[error("the path has a backslash, a malformed escape, or an escaped NUL, slash or backslash")]
    Path,
    /// TE with anything but `trailers`, in HTTP/2.
    #[error("te is not `trailers`, which is all that HTTP/2 allows")]
    Te,
    /// The endpoint switches protocols although nobody asked it to.
    #[error("the endpoint switches protocols although nobody asked it to")]
    UpgradeUnasked,
    /// A chunk's data is not followed by CRLF.
    #[error("chunk data is not followed by CRLF; chunk size and data disagree")]
    ChunkEnd,
    /// A chunk extension is not `;name`, `;name=token` or `;name="quoted"`.
    #[error("malformed chunk extension")]
    ChunkExtension,
    /// The chunk extensions of one message are longer than 1 KiB.
    #[error("chunk extensions of this message are longer than 1 KiB")]
    ChunkExtensionsTooLong,
    /// A chunk-size line is not 1 to 16 hexadecimal digits and CRLF, or the size is beyond 2^63 - 1.
    #[error("malformed chunk size; only 1 to 16 hexadecimal digits are taken")]
    ChunkSize,
    /// The target of CONNECT is not `host:port`.
    #[error("the target of CONNECT must be host:port")]
    ConnectForm,
    /// CONNECT with a Content-Length or Transfer-Encoding.
    #[error("CONNECT must not announce a body")]
    ConnectWithBody,
    /// A Connection field is not a list of tokens.
    #[error("Connection is not a list of tokens")]
    Connection,
    /// Connection names a field that must not be dropped on the way, such as Host, Authorization or X-Forwarded-For.
    #[error("Connection names a field that is not hop-by-hop")]
    ConnectionNamesProtected,
    /// Content-Length is not 1 to 19 digits up to 2^63 - 1.
    #[error("Content-Length is not a plain decimal number")]
    ContentLength,
    /// A second Content-Length, equal or not.
    #[error("more than one Content-Length")]
    ContentLengthRepeated,
    /// Both Content-Length and Transfer-Encoding.
    #[error("both Content-Length and Transfer-Encoding")]
    ContentLengthWithTransferEncoding,
    /// An empty line where a start line must be: more than one before a request, any before a response.
    #[error("empty line before the start line")]
    EmptyLine,
    /// An Expect that is not `100-continue`.
    #[error("the only expectation that can be met is 100-continue")]
    Expectation,
    /// A control byte (NUL, DEL, or any below space but TAB) in a field.
    #[error("control byte in the field at line {line}")]
    FieldControl {
        /// Line of the head or of the trailer section.
        line: usize,
    },
    /// A field line that begins with white space: obsolete line folding.
    #[error("folded field at line {line}")]
    FieldFolded {
        /// Line of the head or of the trailer section.
        line: usize,
    },
    /// A field name is empty or not a token, or the line has no colon.
    #[error("the field at line {line} has no valid name")]
    FieldName {
        /// Line of the head or of the trailer section.
        line: usize,
    },
    /// White space between a field name and the colon.
    #[error("white space before the colon at line {line}")]
    FieldSpaceBeforeColon {
        /// Line of the head or of the trailer section.
        line: usize,
    },
    /// A field name with an underscore, which some backends take for a hyphen.
    #[error("underscore in the field name at line {line}")]
    FieldUnderscore {
        /// Line of the head or of the trailer section.
        line: usize,
    },
    /// The head is larger than the limit.
    #[error("the head is larger than the limit")]
    HeadTooLarge,
    /// The Host field is empty or not `host` or `host:port`.
    #[error("Host is not a plain host and port")]
    Host,
    /// The target names another authority than Host.
    #[error("the target and Host name different authorities")]
    HostMismatch,
    /// HTTP/1.1 without Host.
    #[error("Host is missing")]
    HostMissing,
    /// A second Host field.
    #[error("more than one Host")]
    HostRepeated,
    /// The method is not a token.
    #[error("the method is not a token")]
    Method,
    /// The method is longer than any that is known (32 bytes).
    #[error("the method is longer than 32 bytes")]
    MethodTooLong,
    /// The request line is not method, space, target, space, version.
    #[error("malformed request line")]
    RequestLine,
    /// The status line is not version, space, three digits.
    #[error("malformed status line")]
    StatusLine,
    /// A byte in the target that may not be there (control, not ASCII, or one that must be percent-encoded).
    #[error("invalid byte in the request target")]
    Target,
    /// The form of the target does not fit: neither a path nor an http or https URL, or `*` without OPTIONS.
    #[error("the request target has a form that does not fit the method")]
    TargetForm,
    /// A fragment in the target.
    #[error("fragment in the request target")]
    TargetFragment,
    /// The request line is larger than the limit of the head.
    #[error("the request line is longer than the limit")]
    TargetTooLong,
    /// More field lines than the limit.
    #[error("more field lines than the limit")]
    TooManyFields,
    /// A trailer that a receiver could take for framing, routing, authentication or content description.
    #[error("forbidden field in the trailer section at line {line}")]
    TrailerForbidden {
        /// Line of the trailer section.
        line: usize,
    },
    /// The trailer section is larger than the limit.
    #[error("the trailer section is larger than the limit")]
    TrailersTooLarge,
    /// Transfer-Encoding is not exactly one `chunked`.
    #[error("Transfer-Encoding is not exactly `chunked`")]
    TransferEncoding,
    /// Transfer-Encoding in an HTTP/1.0 message.
    #[error("Transfer-Encoding in an HTTP/1.0 message")]
    TransferEncodingInHttp10,
    /// The connection ended inside a body.
    #[error("the connection ended before the body was complete")]
    Truncated,
    /// The version is malformed or missing (HTTP/0.9).
    #[error("the HTTP version is missing or malformed")]
    Version,
    /// The version is well-formed but neither 1.0 nor 1.1.
    #[error("HTTP version is neither 1.0 nor 1.1")]
    VersionUnsupported,
}

impl Reject {
    /// Returns the status to answer a refused *request* with. The connection must be closed after it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::MethodTooLong => StatusCode::NOT_IMPLEMENTED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::VersionUnsupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the name of the reason in metrics, logs and `meshless-error`.
    pub fn label(self) -> &'static str {
        match self {
            Self::BodyLength => "body_length",
            Self::ConnectNotAllowed => "connect_not_allowed",
            Self::Http2 => "http2",
            Self::InterimTooMany => "interim_too_many",
            Self::Path => "path_malformed",
            Self::Te => "te_malformed",
            Self::UpgradeUnasked => "upgrade_unasked",
            Self::BareCarriageReturn { .. } => "bare_cr",
            Self::BareLineFeed => "bare_lf",
            Self::ChunkEnd => "chunk_end",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkExtensionsTooLong => "chunk_extensions_too_long",
            Self::ChunkSize => "chunk_size",
            Self::ConnectForm => "connect_form",
            Self::ConnectWithBody => "connect_with_body",
            Self::Connection => "connection_malformed",
            Self::ConnectionNamesProtected => "connection_names_protected",
            Self::ContentLength => "content_length",
            Self::ContentLengthRepeated => "content_length_repeated",
            Self::ContentLengthWithTransferEncoding => "content_length_with_transfer_encoding",
            Self::EmptyLine => "empty_line",
            Self::Expectation => "expectation",
            Self::FieldControl { .. } => "field_control",
            Self::FieldFolded { .. } => "field_folded",
            Self::FieldName { .. } => "field_name",
            Self::FieldSpaceBeforeColon { .. } => "field_space_before_colon",
            Self::FieldUnderscore { .. } => "field_underscore",
            Self::HeadTooLarge => "head_too_large",
            Self::Host => "host_malformed",
            Self::HostMismatch => "host_mismatch",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::Method => "method_malformed",
            Self::MethodTooLong => "method_too_long",
            Self::RequestLine => "request_line",
            Self::StatusLine => "status_line",
            Self::Target => "target_malformed",
            Self::TargetForm => "target_form",
            Self::TargetFragment => "target_fragment",
            Self::TargetTooLong => "target_too_long",
            Self::TooManyFields => "too_many_fields",
            Self::TrailerForbidden { .. } => "trailer_forbidden",
            Self::TrailersTooLarge => "trailers_too_large",
            Self::TransferEncoding => "transfer_encoding",
            Self::TransferEncodingInHttp10 => "transfer_encoding_in_http_1_0",
            Self::Truncated => "truncated",
            Self::Version => "version_malformed",
            Self::VersionUnsupported => "version_unsupported",
        }
    }
}
