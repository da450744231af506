//! HTTP/2 by hand (RFC 9113), to say what no library would let anybody say.

use std::net::SocketAddr;

use bytes::{BufMut as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Types of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags of frames.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A connection on which anything can be said. What comes back is taken and forgotten, or not even taken.
pub(crate) struct Raw {
    socket: TcpStream,
}

impl Raw {
    /// Says the preface and empty settings.
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let mut raw = Self { socket: TcpStream::connect(address).await.unwrap() };
        let mut words = BytesMut::from(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]);
        put(&mut words, SETTINGS, 0, 0, &[]);
        raw.socket.write_all(&words).await.unwrap();
        raw
    }

    /// Says as many of these frames as the other side takes, and reads nothing. Says whether it took all of them.
    pub(crate) async fn flood(&mut self, count: u32, frame: impl Fn(&mut BytesMut, u32)) -> bool {
        let mut words = BytesMut::new();
        for number in 0..count {
            frame(&mut words, number);
            if words.len() > 16 * 1024 && self.socket.write_all(&words.split()).await.is_err() {
                return false;
            }
        }
        self.socket.write_all(&words).await.is_ok()
    }

    /// Reads until the other side ends the connection.
    pub(crate) async fn until_the_end(&mut self) {
        let mut heard = vec![0; 16 * 1024];
        // Ended or reset: either is an end.
        while self.socket.read(&mut heard).await.is_ok_and(|read| read > 0) {}
    }

    /// The same, and answers its pings meanwhile: whoever goes away in peace waits for that.
    pub(crate) async fn until_a_peaceful_end(&mut self) {
        const ACK: u8 = 1;
        let mut head = [0; 9];
        while self.socket.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.socket.read_exact(&mut payload).await.unwrap();
            if (head[3], head[4]) == (PING, 0) {
                let mut words = BytesMut::new();
                put(&mut words, PING, ACK, 0, &payload);
                self.socket.write_all(&words).await.unwrap();
            }
        }
    }
}

/// Writes a frame.
pub(crate) fn put(words: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    words.put_uint(u64::try_from(payload.len()).unwrap(), 3);
    words.put_u8(kind);
    words.put_u8(flags);
    words.put_u32(stream);
    words.put_slice(payload);
}

/// The headers of a call, as literals without indexing (RFC 7541, section 6.2.2).
pub(crate) fn call_to(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "trivet"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}
