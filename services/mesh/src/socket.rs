//! A socket, encrypted or not, and one that tells how much was heard on it, and is left to whoever listens when hyper is
//! done with it. hyper says nothing of a connection until a whole request or answer is there, which on a connection that is
//! none never happens; and it closes a connection when it has said all, whether or not it has heard all.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};
use tokio_rustls::TlsStream;

use crate::call::lock;

/// What is said between two ends: as it is, or over TLS.
pub(crate) enum Socket {
    Plain(TcpStream),
    /// In a box, because it is a kilobyte.
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Socket {
    pub(crate) fn encrypted(stream: impl Into<TlsStream<TcpStream>>) -> Self {
        Self::Encrypted(Box::new(stream.into()))
    }
}

/// Does it with whichever it is.
macro_rules! either {
    ($socket:expr, $stream:ident => $does:expr) => {
        match $socket {
            Socket::Plain($stream) => $does,
            Socket::Encrypted($stream) => $does,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, stream => Pin::new(stream).poll_read(task, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(&mut *self, stream => Pin::new(stream).poll_write(task, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(&mut *self, stream => Pin::new(stream).poll_write_vectored(task, slices))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, stream => Pin::new(stream).poll_flush(task))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, stream => Pin::new(stream).poll_shutdown(task))
    }
}

/// See the module.
pub(crate) struct Counted<S> {
    /// Until it is left.
    socket: Option<S>,
    heard: Arc<Heard<S>>,
}

/// What was heard on a socket.
pub(crate) struct Heard<S> {
    bytes: AtomicU64,
    more: Notify,
    left: Mutex<Option<S>>,
}

impl<S: AsyncRead + Unpin> Heard<S> {
    /// Takes what still comes on a socket that is left and says nothing of it, until the other side has ended it, too. A
    /// socket that is closed with something unheard is reset, and what the other side had not read of our last words is
    /// lost to it.
    pub(crate) async fn to_the_end(&self) {
        let left = lock(&self.left).take();
        let Some(mut socket) = left else { return };
        // Ended or broken: either is an end.
        let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
    }
}

impl<S> Heard<S> {
    /// Waits until at least this many bytes were heard.
    pub(crate) async fn at_least(&self, bytes: u64) {
        loop {
            let more = self.more.notified();
            if self.bytes.load(Ordering::Acquire) >= bytes {
                return;
            }
            more.await;
        }
    }
}

impl<S> Counted<S> {
    pub(crate) fn new(socket: S) -> (Self, Arc<Heard<S>>) {
        let heard = Heard { bytes: AtomicU64::new(0), more: Notify::new(), left: Mutex::new(None) };
        let heard = Arc::new(heard);
        (Self { socket: Some(socket), heard: heard.clone() }, heard)
    }
}

impl<S: Unpin> Counted<S> {
    fn socket(&mut self) -> io::Result<Pin<&mut S>> {
        self.socket.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        *lock(&self.heard.left) = self.socket.take();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.socket()?.poll_read(task, buffer);
        let bytes = buffer.filled().len().saturating_sub(before);
        if bytes > 0 {
            self.heard.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Release);
            self.heard.more.notify_waiters();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write(task, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write_vectored(task, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_of_as_much_as_they_wait_for() {
        let (mut far, near) = tokio::io::duplex(64);
        let (mut near, heard) = Counted::new(near);
        let mut waiting = Box::pin(heard.at_least(5));
        far.write_all(b"four").await.unwrap();
        assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 4);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        far.write_all(b"5").await.unwrap();
        assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 1);
        waiting.await;
        heard.at_least(5).await;
    }
}
