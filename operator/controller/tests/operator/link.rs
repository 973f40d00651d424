//! A link that can be cut, between the operator and the API server of a
//! member.

use std::{
    io::{ErrorKind, copy},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// Forwards TCP connections until it is cut.
pub struct Link {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cut: bool,
    open: Vec<TcpStream>,
}

impl Link {
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // The thread ends with the process.
        thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(near) = connection else { continue };
                let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                // Whoever comes to a link that is cut finds nobody.
                let Ok(far) = (if state.cut {
                    Err(ErrorKind::ConnectionRefused.into())
                } else {
                    TcpStream::connect(server)
                }) else {
                    continue;
                };
                state
                    .open
                    .extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                drop(state);
                forward(near.try_clone().unwrap(), far.try_clone().unwrap());
                forward(far, near);
            }
        });
        Self { address, state }
    }

    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.cut = true;
        for connection in state.open.drain(..) {
            connection.shutdown(Shutdown::Both).ok();
        }
    }

    pub fn mend(&self) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .cut = false;
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
}
