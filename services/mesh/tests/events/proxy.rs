//! The network between a process and NATS, in the hand of the test: it can be away, swallow a message, or end in front of
//! an acknowledgement.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, mpsc, watch},
    task::JoinSet,
};

use crate::waiting::in_time;

/// No command of the protocol, payload included, is longer here.
const BUFFER: usize = 64 * 1024;
/// What the subject of an acknowledgement begins with; it is also where a delivery is to be answered to.
const ACKNOWLEDGEMENT: &str = "$JS.ACK.";

/// A proxy in front of NATS. It ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    wire: Arc<Wire>,
    withheld: Mutex<mpsc::UnboundedReceiver<String>>,
    _tasks: JoinSet<()>,
}

struct Wire {
    /// Whether there is a way at all.
    open: watch::Sender<bool>,
    /// How many acknowledgements still pass; what comes behind the last of them does not.
    acknowledgements: AtomicI64,
    withheld: mpsc::UnboundedSender<String>,
    /// How many deliveries still arrive before one does not; negative: all do.
    deliveries: AtomicI64,
    lost: AtomicBool,
}

impl Proxy {
    /// A way to NATS.
    pub(crate) async fn to(nats_url: &str) -> Self {
        let server = nats_url.trim_start_matches("nats://").rsplit('@').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, withheld) = mpsc::unbounded_channel();
        let wire = Arc::new(Wire {
            open: watch::Sender::new(true),
            acknowledgements: AtomicI64::new(i64::MAX),
            withheld: sender,
            deliveries: AtomicI64::new(-1),
            lost: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, wire.clone()));
        Self { address, wire, withheld: Mutex::new(withheld), _tasks: tasks }
    }

    /// Cuts all connections, and takes no new ones.
    pub(crate) fn close(&self) {
        self.wire.open.send_replace(false);
    }

    /// There is a way again.
    pub(crate) fn open(&self) {
        self.wire.open.send_replace(true);
    }

    /// Lets this many acknowledgements pass, and nothing of a connection from the next one on.
    pub(crate) fn let_acknowledge(&self, times: i64) {
        self.wire.acknowledgements.store(times, Ordering::SeqCst);
    }

    /// Waits for the acknowledgement that did not pass, and answers its subject.
    pub(crate) async fn withheld(&self) -> String {
        in_time("an acknowledgement", async { self.withheld.lock().await.recv().await.unwrap() }).await
    }

    /// Swallows one delivery to the sink, after this many.
    pub(crate) fn lose_a_delivery_after(&self, deliveries: i64) {
        self.wire.deliveries.store(deliveries, Ordering::SeqCst);
    }

    /// Whether a delivery was swallowed.
    pub(crate) fn has_lost_a_delivery(&self) -> bool {
        self.wire.lost.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, server: String, wire: Arc<Wire>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (server, wire) = (server.clone(), wire.clone());
        connections.spawn(async move {
            let mut open = wire.open.subscribe();
            if !*open.borrow_and_update() {
                return;
            }
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = TcpStream::connect(server).await.unwrap().into_split();
            tokio::select! {
                () = carry(from_client, to_server, |command| wire.passes_to_server(command)) => {}
                () = carry(from_server, to_client, |command| wire.passes_to_client(command)) => {}
                _ = open.wait_for(|open| !open) => {}
            }
        });
    }
}

/// What happens to a command.
#[derive(PartialEq, Eq)]
enum Passage {
    Passes,
    Lost,
    /// Neither it nor anything that follows passes; the connection stays, and nobody notices.
    EndsHere,
}

impl Wire {
    fn passes_to_server(&self, command: &str) -> Passage {
        let subject = command.split(' ').nth(1).unwrap_or_default();
        let publishes = command.starts_with("PUB ") || command.starts_with("HPUB ");
        if !publishes || !subject.starts_with(ACKNOWLEDGEMENT) {
            return Passage::Passes;
        }
        if self.acknowledgements.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Passage::Passes;
        }
        self.withheld.send(subject.to_owned()).unwrap();
        Passage::EndsHere
    }

    fn passes_to_client(&self, command: &str) -> Passage {
        let delivers = command.starts_with("MSG ") || command.starts_with("HMSG ");
        if !delivers || !command.split(' ').any(|word| word.starts_with(ACKNOWLEDGEMENT) && word.contains(".sink.")) {
            return Passage::Passes;
        }
        if self.deliveries.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.lost.store(true, Ordering::SeqCst);
            return Passage::Lost;
        }
        Passage::Passes
    }
}

/// Carries commands one way, until somebody closes the connection.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passes: impl Fn(&str) -> Passage) {
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut passing = Vec::with_capacity(BUFFER);
    while from.read_buf(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
        let mut begin = 0;
        while let Some((command, length)) = first_command(&buffer[begin..]) {
            match passes(&command) {
                Passage::Passes => passing.extend_from_slice(&buffer[begin..begin + length]),
                Passage::Lost => {}
                Passage::EndsHere => {
                    let _ = to.write_all(&passing).await;
                    return std::future::pending().await;
                }
            }
            begin += length;
        }
        buffer.drain(..begin);
        if to.write_all(&passing).await.is_err() {
            return;
        }
        passing.clear();
    }
}

/// The line of the first command, and how long it is with its payload, once all of it is there
/// (<https://docs.nats.io/reference/reference-protocols/nats-protocol>).
fn first_command(bytes: &[u8]) -> Option<(String, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let has_payload = ["PUB ", "HPUB ", "MSG ", "HMSG "].iter().any(|verb| line.starts_with(verb));
    let payload = if has_payload { line.rsplit(' ').next()?.parse::<usize>().ok()? + 2 } else { 0 };
    let length = end + 2 + payload;
    (bytes.len() >= length).then_some((line, length))
}
