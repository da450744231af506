//! A way to a server that can be closed without anybody hearing of it.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A listener that hands connections on to a server, until it goes silent: what comes is taken, and nothing is answered.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    silent: watch::Sender<bool>,
    connections: Arc<watch::Sender<usize>>,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Self { address, silent: watch::Sender::new(false), connections: Arc::default() };
        let handle = proxy.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                handle.connections.send_modify(|count| *count += 1);
                tokio::spawn(hand_on(socket, server, handle.silent.subscribe()));
            }
        });
        proxy
    }

    /// From now on nothing is answered, and no connection ends.
    pub(crate) fn go_silent(&self) {
        self.silent.send_replace(true);
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }
}

async fn hand_on(mut socket: TcpStream, server: SocketAddr, mut silent: watch::Receiver<bool>) {
    let silence = async { silent.wait_for(|silent| *silent).await.is_ok() };
    let handing_on = async {
        let mut onward = TcpStream::connect(server).await.unwrap();
        // A connection that breaks is a test's doing.
        let _ = tokio::io::copy_bidirectional(&mut socket, &mut onward).await;
        onward
    };
    tokio::select! {
        _ = handing_on => {}
        went = silence => if went {
            // Both ends stay open, and nobody reads them.
            std::future::pending::<()>().await;
        }
    }
}
