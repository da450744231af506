//! No waiting on the way to PostgreSQL. sqlx 0.9.0 leaves Nagle's algorithm (RFC 896) on, and rustls hands its records of
//! 16 KiB over one by one: the last of a long statement then waits until the server acknowledges the one before, 40 ms on
//! Linux. sqlx gives no hold on its socket, so the process finds it among its own. Goes when sqlx sets the option again
//! (transact-rs/sqlx#4336).

use std::io;

use filedescriptor::OwnedHandle;
use socket2::SockRef;

/// Where a process sees its open files.
const OPEN_FILES: &str = "/dev/fd";

/// Has this process's connections to a port send what they have at once (TCP_NODELAY).
pub(super) fn hurry(port: u16) -> io::Result<()> {
    for file in std::fs::read_dir(OPEN_FILES)? {
        let Some(number) = file?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A second handle on the same socket, which nobody closes meanwhile. What went since the look is none.
        let Ok(handle) = OwnedHandle::dup(&number) else { continue };
        let socket = SockRef::from(&handle);
        if socket.peer_addr().is_ok_and(|peer| peer.as_socket().is_some_and(|peer| peer.port() == port)) {
            socket.set_tcp_nodelay(true)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_to_the_port_wait_no_more_and_others_as_before() {
        let (database, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let connect = |to: &TcpListener| TcpStream::connect(to.local_addr().unwrap()).unwrap();
        let connections = [connect(&database), connect(&database), connect(&other)];
        hurry(database.local_addr().unwrap().port()).unwrap();
        assert_eq!(connections.map(|connection| connection.nodelay().unwrap()), [true, true, false]);
    }
}
