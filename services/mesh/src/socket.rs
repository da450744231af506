//! A socket, encrypted or not, and one that tells how much was heard on it. hyper says nothing of a connection until a
//! whole request or answer is there, which on a connection that is none never happens.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
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
    socket: S,
    heard: Arc<Heard>,
}

/// What was heard on a socket.
#[derive(Default)]
pub(crate) struct Heard {
    bytes: AtomicU64,
    more: Notify,
}

impl Heard {
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
    pub(crate) fn new(socket: S) -> (Self, Arc<Heard>) {
        let heard = Arc::<Heard>::default();
        (Self { socket, heard: heard.clone() }, heard)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(task, buffer);
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
        Pin::new(&mut self.socket).poll_write(task, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(task, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(task)
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
