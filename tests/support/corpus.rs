//! Messages that were valid until a few known tricks of request smuggling were applied to them.
//!
//! A [`Recipe`] is plain numbers, so that a property test shrinks it to the one trick that matters.

/// Which message, and which tricks on it.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// Which of the valid messages to start from.
    pub(crate) base: usize,
    /// Each is a kind of trick, where, and which.
    pub(crate) tricks: Vec<(u8, usize, usize)>,
}

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET /x?y=z HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nCookie: a=b\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n",
    "PUT /t HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\na;n=\"v\"\r\n0123456789\r\n1\r\nx\r\n000\r\nx-sum: abc\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\nGET /never HTTP/1.0\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a:80/p?q HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nHost: [::1]:80\r\nUpgrade: websocket\r\nConnection: upgrade\r\nExpect: 100-continue\r\n\r\n",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nServer: x\r\n\r\n5\r\nhello\r\n0\r\nx-sum: abc\r\n\r\n",
    "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 404 \r\nContent-Length: 0\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.1 301\r\nLocation: /\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
];

/// Fields that two implementations may read in two ways.
const FIELDS: &[&str] = &[
    "Content-Length: 5",
    "Content-Length: 0",
    "Content-Length: 6",
    "content-length: +5",
    "Content-Length: 5, 5",
    "Content-Length: 05",
    "Content-Length:5",
    "Content-Length : 5",
    "Content-Length: 5 ",
    "Content-Length: -1",
    "Content-Length: 0x5",
    "Content-Length: 18446744073709551621",
    "Content_Length: 6",
    "Content-Length\t: 5",
    "\tContent-Length: 6",
    "Content-Length: 5\x0b",
    "Content-Length:",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked\x0c",
    "Transfer-Encoding : chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding:",
    "Transfer-Encoding\0: chunked",
    "X: y\r\n Transfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "transfer-encoding: chunked;q=1",
    "Host: b",
    "Host:",
    "Host: a,b",
    "Host: a/x",
    "Host: u@a",
    "host: a",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: close, keep-alive",
    "Connection: content-length",
    "Connection: Host",
    "Connection: x y",
    "Upgrade: h2c",
    "Upgrade: websocket",
    "HTTP2-Settings: AAMAAABk",
    "Expect: 100-continue",
    "Expect: 200-ok",
    "Trailer: x-sum",
    "TE: trailers",
    "X: \x01",
    "X: \x7f",
    "X",
    ": y",
    "X_Y: z",
    "X: a\rb",
    "X: \u{e9}",
    "X:",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: close",
    "GET /smuggled HTTP/1.1",
    "",
];

const REQUEST_LINES: &[&str] = &[
    "GET / HTTP/1.1",
    "GET / HTTP/1.0",
    "GET /",
    "GET / HTTP/2.0",
    "GET / HTTP/1.2",
    "GET  / HTTP/1.1",
    "GET /  HTTP/1.1",
    "GET /\tHTTP/1.1",
    "GET / HTTP/1.1 ",
    " GET / HTTP/1.1",
    "GET /a b HTTP/1.1",
    "GET /#f HTTP/1.1",
    "GET * HTTP/1.1",
    "GET a HTTP/1.1",
    "GET http://b/ HTTP/1.1",
    "GET http://a HTTP/1.1",
    "GET http://a?x HTTP/1.1",
    "GET https://u@a/ HTTP/1.1",
    "OPTIONS http://a HTTP/1.1",
    "OPTIONS * HTTP/1.0",
    "CONNECT a:1 HTTP/1.1",
    "CONNECT / HTTP/1.1",
    "get / HTTP/1.1",
    "G\x7fT / HTTP/1.1",
    "GET /\u{e9} HTTP/1.1",
    "GET /{}|^`\" HTTP/1.1",
    "GET /\\..\\ HTTP/1.1",
    "GET //a HTTP/1.1",
    "GET ?x HTTP/1.1",
    "GET / http/1.1",
    "GET / HTTP/1.1\r\nHost: z",
    "HEAD / HTTP/1.1",
    "TRACE / HTTP/1.1",
];

const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 200",
    "HTTP/1.1  200 OK",
    "HTTP/1.1 99 X",
    "HTTP/1.1 099 X",
    "HTTP/1.1 600 X",
    "HTTP/1.1 999 X",
    "HTTP/1.1 1000 X",
    "HTTP/1.1 204 X",
    "HTTP/1.1 304 X",
    "HTTP/1.1 100 X",
    "HTTP/1.1 101 X",
    "HTTP/1.1 103 X",
    "HTTP/2.0 200 OK",
    "HTTP/1.1 200\tOK",
    "http/1.1 200 OK",
    "HTTP/1.1 2a0 OK",
    "HTTP/1.1 200 O\0K",
    "HTTP/1.1 205 X",
    "HTTP/1.1 -20 X",
];

const BODIES: &[&str] = &[
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "5;\r\nhello\r\n0\r\n\r\n",
    "5;a\r\nhello\r\n0\r\n\r\n",
    "5;a\nhello\r\n0\r\n\r\n",
    "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
    "5\r\nhelloX0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "6\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    "5\r\nhello\r\n0\r\n x: y\r\n\r\n",
    "5\r\nhello\r\n0\r\nx: y\n\n",
    "5\r\nhello\r\n0\r\n",
    "5\r\nhello\r\n0\r\n\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffb\r\nhello\r\n0\r\n\r\n",
    "00000000000000000005\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n-0\r\n\r\n",
    "5\rhello\r0\r\r",
    "5\r\r\nhello\r\n0\r\n\r\n",
    "hello",
    "hello, world",
    "",
    "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "5\r\nhello\r\n0;x=y\r\n\r\n",
    "5\r\nhello\r\n00;\"\r\n\r\n",
];

const BYTES: &[u8] = b"\r\n\0\t \x0b\x0c\x1f\x7f\x80\xa0\xff:;,=\"_-+0a/#@*\\";

const LINE_ENDS: &[&str] = &["\n", "\r", "\r\r\n", "\n\r", "\r\n\r\n", "", " \r\n", "\r\n ", "\x0b\r\n", "\0\r\n"];

/// Makes what a client sends.
pub(crate) fn requests(recipe: &Recipe) -> Vec<u8> {
    cook(recipe, REQUESTS, REQUEST_LINES)
}

/// Makes what a server answers.
pub(crate) fn response(recipe: &Recipe) -> Vec<u8> {
    cook(recipe, RESPONSES, STATUS_LINES)
}

/// Returns all valid messages, as they are.
pub(crate) fn valid() -> (&'static [&'static str], &'static [&'static str]) {
    (REQUESTS, RESPONSES)
}

fn cook(recipe: &Recipe, bases: &[&str], lines: &[&str]) -> Vec<u8> {
    let mut bytes = pick(bases, recipe.base).as_bytes().to_vec();
    for &(kind, place, which) in &recipe.tricks {
        trick(&mut bytes, lines, kind, place, which);
    }
    bytes
}

fn trick(bytes: &mut Vec<u8>, lines: &[&str], kind: u8, place: usize, which: usize) {
    let ends = line_ends(bytes);
    let at = place % (bytes.len() + 1);
    match kind % 10 {
        // A field more, after any line.
        0..=2 => {
            let line = format!("{}\r\n", pick(FIELDS, which));
            let at = if ends.is_empty() { 0 } else { ends[place % ends.len()] + 2 };
            bytes.splice(at..at, line.bytes());
        }
        // A line that ends otherwise.
        3 if !ends.is_empty() => {
            let at = ends[place % ends.len()];
            bytes.splice(at..at + 2, pick(LINE_ENDS, which).bytes());
        }
        // Another start line.
        4 if !ends.is_empty() => {
            bytes.splice(..ends[0], pick(lines, which).bytes());
        }
        // Another body, and what followed the head becomes the next message.
        5 => {
            let head = find(bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
            let keep = if place.is_multiple_of(2) { head } else { bytes.len() };
            bytes.splice(head..keep, pick(BODIES, which).bytes());
        }
        6 => bytes.insert(at, BYTES[which % BYTES.len()]),
        7 if at < bytes.len() => bytes[at] = BYTES[which % BYTES.len()],
        8 if at < bytes.len() => drop(bytes.remove(at)),
        // A line twice.
        9 if ends.len() > 1 => {
            let index = place % (ends.len() - 1);
            let line = bytes[ends[index] + 2..ends[index + 1] + 2].to_vec();
            let at = ends[which % ends.len()] + 2;
            bytes.splice(at..at, line);
        }
        _ => bytes.truncate(at),
    }
}

fn line_ends(bytes: &[u8]) -> Vec<usize> {
    bytes.windows(2).enumerate().filter(|(_, pair)| pair == b"\r\n").map(|(at, _)| at).collect()
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn pick<'a>(list: &[&'a str], which: usize) -> &'a str {
    list[which % list.len()]
}
