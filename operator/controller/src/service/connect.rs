//! Tries a connection to the endpoints of a copy.

use super::evidence::Attempt;
use futures::{StreamExt, stream::FuturesUnordered};
use std::{io::ErrorKind, net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// How long a connection may take to be made.
const LIMIT: Duration = Duration::from_secs(1);

/// Tries all of some addresses at once; one that takes the connection is
/// enough, and the connection is closed again without a word.
pub(super) async fn attempt(addresses: Vec<SocketAddr>) -> Attempt {
    let mut attempts: FuturesUnordered<_> = addresses.into_iter().map(one).collect();
    let mut outcome = Attempt::Unanswered;
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Attempt::Taken => return Attempt::Taken,
            Attempt::Refused => outcome = Attempt::Refused,
            Attempt::Unanswered => {}
        }
    }
    outcome
}

async fn one(address: SocketAddr) -> Attempt {
    match timeout(LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Attempt::Taken,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Attempt::Refused,
        _ => Attempt::Unanswered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn one_endpoint_that_takes_the_connection_is_enough() {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (open_at, closed_at) = (open.local_addr().unwrap(), closed.local_addr().unwrap());
        drop(closed);
        assert_eq!(attempt(vec![closed_at, open_at]).await, Attempt::Taken);
        assert_eq!(attempt(vec![closed_at]).await, Attempt::Refused);
        assert_eq!(attempt(Vec::new()).await, Attempt::Unanswered);
    }
}
