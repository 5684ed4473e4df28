//! A collector: it takes what is POSTed to it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

/// Longer than anything here takes, so that a test that fails ends.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// One request.
pub(crate) struct Posted {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

/// A server on a port of its own.
pub(crate) struct Collector {
    pub(crate) address: String,
    posted: Receiver<Posted>,
}

// === impl Collector ===

impl Collector {
    /// One that answers with this status line, or, without one, never.
    pub(crate) fn start(status: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, posted) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                thread::spawn(move || serve(&stream, status, &sender));
            }
        });
        Self { address, posted }
    }

    /// The next request.
    pub(crate) fn next(&self) -> Posted {
        self.posted.recv_timeout(DEADLINE).expect("a request")
    }

    /// What has come so far.
    pub(crate) fn all(&self) -> Vec<Posted> {
        self.posted.try_iter().collect()
    }
}

fn serve(stream: &TcpStream, status: Option<&'static str>, sender: &Sender<Posted>) {
    let mut reader = BufReader::new(stream);
    while let Some(posted) = request(&mut reader) {
        if sender.send(posted).is_err() {
            return;
        }
        match status {
            Some(status) => {
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                (&mut &*stream).write_all(answer.as_bytes()).expect("somebody listens");
            }
            // Held open, and silent.
            None => thread::sleep(DEADLINE),
        }
    }
}

/// The next request on a connection, or none where it ends.
fn request(reader: &mut BufReader<&TcpStream>) -> Option<Posted> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_lowercase());
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().expect("a number")];
    reader.read_exact(&mut body).ok()?;
    let headers = lines.split_off(1);
    Some(Posted { line: lines.pop()?, headers, body })
}
