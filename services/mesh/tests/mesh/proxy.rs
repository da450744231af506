//! A way to a server that can be closed, with or without anybody hearing of it.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// They lead to the server.
    Open,
    /// They stay, and nothing is answered.
    Silent,
    /// They end, and so do new ones.
    Closed,
}

/// A listener that hands connections on to a server for as long as it is told to.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    way: watch::Sender<Way>,
    connections: Arc<watch::Sender<usize>>,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Self { address, way: watch::Sender::new(Way::Open), connections: Arc::default() };
        let handle = proxy.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                handle.connections.send_modify(|count| *count += 1);
                tokio::spawn(hand_on(socket, server, handle.way.subscribe()));
            }
        });
        proxy
    }

    /// From now on nothing is answered, and no connection ends.
    pub(crate) fn go_silent(&self) {
        self.way.send_replace(Way::Silent);
    }

    /// Cuts all connections, and those that come.
    pub(crate) fn close(&self) {
        self.way.send_replace(Way::Closed);
    }

    /// Hands connections on, again.
    pub(crate) fn open(&self) {
        self.way.send_replace(Way::Open);
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }
}

async fn hand_on(mut socket: TcpStream, server: SocketAddr, mut way: watch::Receiver<Way>) {
    let handing_on = async {
        let mut onward = TcpStream::connect(server).await.unwrap();
        // A connection that breaks is a test's doing.
        let _ = tokio::io::copy_bidirectional(&mut socket, &mut onward).await;
        onward
    };
    let changed = async { way.wait_for(|way| *way != Way::Open).await.map(|way| *way) };
    tokio::select! {
        biased;
        now = changed => if matches!(now, Ok(Way::Silent)) {
            // Both ends stay open, and nobody reads them.
            std::future::pending::<()>().await;
        },
        _ = handing_on => {}
    }
}
