//! A way to a server, in the hand of the test: it can be closed, and everything on it fall silent.

use std::net::SocketAddr;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// They lead to the server.
    Open,
    /// They end, and so do new ones.
    Closed,
    /// They stay, and nothing comes through; nor through new ones.
    Silent,
}

/// A way to a server. It ends when it is dropped.
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    _tasks: JoinSet<()>,
}

impl Way {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State::Open);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, state.clone()));
        Self { address, state, _tasks: tasks }
    }

    /// There is a way, again.
    pub(crate) fn open(&self) {
        self.state.send_replace(State::Open);
    }

    /// Cuts all connections, and those that come.
    pub(crate) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// From now on nothing comes through, and nobody is told.
    pub(crate) fn silence(&self) {
        self.state.send_replace(State::Silent);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: watch::Sender<State>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        connections.spawn(hand_on(socket, server, state.subscribe()));
        while connections.try_join_next().is_some() {}
    }
}

async fn hand_on(mut socket: TcpStream, server: SocketAddr, mut state: watch::Receiver<State>) {
    let began = *state.borrow_and_update();
    if began == State::Closed {
        return;
    }
    let mut onward = None;
    if began == State::Open {
        let mut server = TcpStream::connect(server).await.unwrap();
        tokio::select! {
            // A connection that breaks is a test's doing.
            _ = tokio::io::copy_bidirectional(&mut socket, &mut server) => return,
            changed = state.wait_for(|state| *state != State::Open) => {
                if changed.is_err() || changed.is_ok_and(|state| *state == State::Closed) {
                    return;
                }
            }
        }
        onward = Some(server);
    }
    // Both ends stay, and nobody reads them, until the way is another one.
    let _ = state.wait_for(|state| *state != State::Silent).await;
    drop((socket, onward));
}
