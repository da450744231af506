//! No waiting on the way to PostgreSQL. sqlx 0.9.0 leaves Nagle's algorithm (RFC 896) on, and rustls hands its records of
//! 16 KiB over one by one: the last of a long statement then waits until the server acknowledges the one before, 40 ms on
//! Linux. sqlx gives no hold on its socket, so the process finds it among its own. Goes when sqlx sets the option again
//! (transact-rs/sqlx#4336).

use std::{io, os::unix::fs::FileTypeExt as _};

use filedescriptor::OwnedHandle;
use socket2::SockRef;

/// Where a process sees its open files.
const OPEN_FILES: &str = "/dev/fd";

/// Has this process's connections to a port send what they have at once (TCP_NODELAY).
///
/// Nothing but sockets is touched: to close any handle on a file is to lose all locks that the process has on it
/// (POSIX, `fcntl`), and SQLite's files with them.
pub(super) fn hurry(port: u16) -> io::Result<()> {
    for file in std::fs::read_dir(OPEN_FILES)? {
        let path = file?.path();
        // What went since the look is none.
        if !std::fs::metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
            continue;
        }
        let number = path.file_name().and_then(|name| name.to_str()?.parse::<i32>().ok());
        let Some(number) = number else { continue };
        // A second handle on the same socket, which nobody closes meanwhile.
        let Ok(handle) = OwnedHandle::dup(&number) else { continue };
        let socket = SockRef::from(&handle);
        if socket.r#type().is_err() {
            // A file has taken the number since. One handle more is better than its locks gone.
            std::mem::forget(handle);
            continue;
        }
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
    use crate::store::{Location, Store};

    /// How many locks there are on a file, as Linux tells (proc(5)).
    #[cfg(target_os = "linux")]
    fn locks(path: &std::path::Path) -> usize {
        use std::os::unix::fs::MetadataExt as _;
        let inode = format!(":{} ", std::fs::metadata(path).unwrap().ino());
        std::fs::read_to_string("/proc/locks").unwrap().lines().filter(|line| line.contains(&inode)).count()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn files_of_sqlite_keep_their_locks() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Location::File(folder.path().join("some.db"))).await.unwrap();
        store.answers().await.unwrap();
        let shared = folder.path().join("some.db-shm");
        let before = locks(&shared);
        hurry(1).unwrap();
        assert!(before > 0);
        assert_eq!(locks(&shared), before);
        store.close().await.unwrap();
    }

    #[test]
    fn connections_to_the_port_wait_no_more_and_others_as_before() {
        let (database, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let connect = |to: &TcpListener| TcpStream::connect(to.local_addr().unwrap()).unwrap();
        let connections = [connect(&database), connect(&database), connect(&other)];
        hurry(database.local_addr().unwrap().port()).unwrap();
        assert_eq!(connections.map(|connection| connection.nodelay().unwrap()), [true, true, false]);
    }
}
