//! A member whose API server is not one.

use crate::support::Fleet;
use base64::{Engine, engine::general_purpose::STANDARD};
use flambeau_operator::members::{MemberSettings, Verb};
use flambeau_planner::model::Reach;
use flambeau_testbed::pki::Authority;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

pub type Stream = StreamOwned<ServerConnection, TcpStream>;

/// Who signs certificates of hostile servers.
pub struct Signer {
    authority: Authority,
    folder: TempDir,
}

impl Signer {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            authority: Authority::create("hostile", folder.path()).unwrap(),
            folder,
        }
    }
}

/// Answers every request over TLS, by path.
pub struct Hostile {
    port: u16,
    asked: Arc<AtomicUsize>,
    certificate: Vec<u8>,
}

impl Hostile {
    /// The thread ends with the process.
    pub fn start(
        answer: impl Fn(&str, &mut Stream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::signed(&Signer::new(), answer)
    }

    /// The same, with a certificate of a signer.
    fn signed(
        signer: &Signer,
        answer: impl Fn(&str, &mut Stream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let identity = signer
            .authority
            .server("hostile", &["localhost"], &[Ipv4Addr::LOCALHOST.into()])
            .unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
            )
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let (counted, answer) = (asked.clone(), Arc::new(answer));
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (config, counted, answer) = (config.clone(), counted.clone(), answer.clone());
                thread::spawn(move || {
                    let session = ServerConnection::new(config).unwrap();
                    let stream = StreamOwned::new(session, connection);
                    let mut reader = BufReader::new(stream);
                    let mut line = String::new();
                    reader.read_line(&mut line)?;
                    counted.fetch_add(1, Ordering::SeqCst);
                    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                    while line.trim_end() != "" {
                        line.clear();
                        reader.read_line(&mut line)?;
                    }
                    // One request for each connection.
                    answer(&path, reader.get_mut())
                });
            }
        });
        Self {
            port,
            asked,
            certificate: std::fs::read(signer.folder.path().join("ca.crt")).unwrap(),
        }
    }

    pub fn kubeconfig(&self) -> Vec<u8> {
        let server = format!("https://127.0.0.1:{}", self.port);
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server,
                "certificate-authority-data": STANDARD.encode(&self.certificate)}}],
            "users": [{"name": "u", "user": {"token": "sesame"}}]});
        kubeconfig.to_string().into_bytes()
    }
}

pub fn say(stream: &mut Stream, status: &str, body: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    kilobytes.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_fills_no_memory() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let hostile = Hostile::start(move |path, stream| {
        if path.starts_with("/readyz") || path.starts_with("/livez") {
            return say(stream, "200 OK", "ok");
        }
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\""
        )?;
        let much = [b'a'; 64 * 1024];
        loop {
            stream.write_all(&much)?;
            counter.fetch_add(much.len(), Ordering::SeqCst);
        }
    });
    let fleet = Fleet::with(MemberSettings::default());
    let before = memory();
    fleet.configure(Ok(&hostile.kubeconfig()));
    // Asked again and again; each time it is cut off, and no list ever ends well.
    let asked = || {
        fleet
            .members
            .metrics()
            .requests("member", Verb::Get, &[200])
    };
    let mut most = 0;
    let enough = 3 * 16 * 1024 * 1024;
    let begun = Instant::now();
    while sent.load(Ordering::SeqCst) < enough || asked() < 3 {
        assert!(begun.elapsed() < PATIENCE, "it is not asked");
        most = most.max(memory().saturating_sub(before));
        tokio::time::sleep(PAUSE).await;
    }
    let sent = sent.load(Ordering::SeqCst) / 1024 / 1024;
    println!("{sent} MiB were sent, memory grew by {} MiB", most / 1024);
    assert!(most < 150 * 1024, "memory grew by {most} KiB");
    assert!(
        fleet.members.kinds("member").is_none(),
        "nothing is known of it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirection_is_not_followed() {
    // Whoever follows is served: by somebody whom the kubeconfig vouches for.
    let signer = Signer::new();
    let elsewhere = Hostile::signed(&signer, |_, stream| say(stream, "200 OK", "ok"));
    let target = format!("https://127.0.0.1:{}/", elsewhere.port);
    let hostile = Hostile::signed(&signer, move |path, stream| {
        write!(
            stream,
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {target}{}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            path.trim_start_matches('/')
        )?;
        stream.flush()
    });
    let fleet = Fleet::with(MemberSettings::default());
    fleet.configure(Ok(&hostile.kubeconfig()));
    fleet
        .until("told", || {
            let reach = fleet.members.reach("member");
            assert_ne!(reach, Reach::Reachable, "it is no API server");
            matches!(reach, Reach::Misconfigured { message } if message.contains("307"))
        })
        .await;
    assert!(hostile.asked.load(Ordering::SeqCst) > 0);
    assert!(
        fleet.members.kinds("member").is_none(),
        "nothing is known of it"
    );
    assert_eq!(
        elsewhere.asked.load(Ordering::SeqCst),
        0,
        "the token went elsewhere"
    );
}
