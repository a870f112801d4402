//! `windlass chore`: one small thing that a container can do, for examples and tests. The image
//! that they use has no shell and no other program.

use std::{env, fs, io::Write, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    time,
};
use windlass_api::duration::Span;

use crate::{
    commands::block_on,
    error::{Exit, Failure},
    output,
};

/// How long a page may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The most of a page that is printed, in bytes: one line of a log.
const PAGE_BYTES_MAX: usize = 16 << 10;

/// Do one small thing and end: for examples and tests.
///
/// What is asked for is done in the order of the options below. It says which index of a job it
/// is, if it is one.
#[derive(Debug, Args)]
pub(crate) struct Chore {
    /// Print this
    #[arg(long, value_name = "TEXT")]
    say: Option<String>,
    /// Write what --say says into a file
    #[arg(long, value_name = "PATH", requires = "say")]
    write: Option<PathBuf>,
    /// Print a file
    #[arg(long, value_name = "PATH")]
    read: Option<PathBuf>,
    /// Print what this page of this machine answers: PORT/PATH
    #[arg(long, value_name = "PAGE")]
    ask: Option<Page>,
    /// Print what comes from standard input, to its end
    #[arg(long)]
    echo: bool,
    /// Print the size of the terminal
    #[arg(long)]
    size: bool,
    /// Do not end on Ctrl-C
    #[arg(long)]
    ignore_interrupt: bool,
    /// Take some time
    #[arg(long, value_name = "TIME")]
    take: Option<Span>,
    /// Begin again after a while, instead of ending
    #[arg(long, value_name = "TIME")]
    every: Option<Span>,
    /// Fail if this file is not there, and make it: with a volume, the second attempt succeeds
    #[arg(long, value_name = "PATH")]
    fail_once: Option<PathBuf>,
    /// Fail if this is the index of the job that it is
    #[arg(long, value_name = "INDEX")]
    fail_index: Option<u32>,
    /// The code to exit with in the end, or when it is to fail [default: 0, or 1 when it is to fail]
    #[arg(long, value_name = "N")]
    exit_code: Option<u8>,
}

/// A page at localhost.
#[derive(Debug, Clone)]
struct Page {
    port: u16,
    path: String,
}

impl std::str::FromStr for Page {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let (port, path) = s.split_once('/').unwrap_or((s, ""));
        let port = port
            .parse()
            .map_err(|_| "write it as PORT/PATH, like `8080/healthz`".to_owned())?;
        Ok(Self {
            port,
            path: format!("/{path}"),
        })
    }
}

impl Chore {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        block_on(Builder::new_current_thread(), async {
            // As the first process of a container it would not end on a signal by itself.
            let mut terminate = signal(SignalKind::terminate())
                .map_err(|e| Failure::new(Exit::Failed, format!("cannot wait for SIGTERM: {e}")))?;
            // Whoever listens is not ended by it.
            let interrupt = self
                .ignore_interrupt
                .then(|| signal(SignalKind::interrupt()));
            let _ignored = interrupt.transpose()?;
            // Cancel-safe: whatever is under way ends with the process.
            tokio::select! {
                done = self.work() => done,
                _ = terminate.recv() => {
                    say("stopping on SIGTERM")?;
                    Ok(ExitCode::SUCCESS)
                }
            }
        })
    }

    async fn work(&self) -> Result<ExitCode, Failure> {
        let index = env::var("WINDLASS_INDEX").ok();
        if let Some(index) = &index {
            say(&format!("index {index}"))?;
        }
        loop {
            self.once().await?;
            match self.every {
                Some(pause) => time::sleep(pause.as_std()).await,
                None => break,
            }
        }
        let is_first = match &self.fail_once {
            Some(path) if !path.exists() => {
                fs::write(path, "").map_err(|e| failed("write", path, &e))?;
                true
            }
            Some(_) | None => false,
        };
        let is_chosen = self.fail_index.is_some_and(|chosen| {
            let index = index.as_deref().and_then(|index| index.parse().ok());
            index == Some(chosen)
        });
        let conditional = self.fail_once.is_some() || self.fail_index.is_some();
        Ok(match (conditional, is_first || is_chosen) {
            (true, true) => ExitCode::from(self.exit_code.unwrap_or(1)),
            (true, false) => ExitCode::SUCCESS,
            (false, _) => ExitCode::from(self.exit_code.unwrap_or(0)),
        })
    }

    async fn once(&self) -> Result<(), Failure> {
        if let Some(text) = &self.say {
            say(text)?;
            if let Some(path) = &self.write {
                fs::write(path, format!("{text}\n")).map_err(|e| failed("write", path, &e))?;
            }
        }
        if let Some(path) = &self.read {
            let text = fs::read_to_string(path).map_err(|e| failed("read", path, &e))?;
            say(text.trim_end())?;
        }
        if let Some(page) = &self.ask {
            // Whoever is asked may not be there yet, which is worth a line and not the end.
            match time::timeout(ANSWER_LIMIT, ask(page)).await {
                Ok(Ok(answer)) => say(answer.trim_end())?,
                Ok(Err(why)) => say(&format!("no answer: {why}"))?,
                Err(_) => say("no answer in time")?,
            }
        }
        if self.echo {
            std::io::copy(&mut std::io::stdin(), &mut std::io::stdout())?;
        }
        if self.size {
            let size = rustix::termios::tcgetwinsize(std::io::stdin())
                .map_err(|e| Failure::new(Exit::Failed, format!("there is no terminal: {e}")))?;
            say(&format!("{} x {}", size.ws_row, size.ws_col))?;
        }
        if let Some(span) = self.take {
            time::sleep(span.as_std()).await;
        }
        Ok(())
    }
}

async fn ask(page: &Page) -> Result<String, String> {
    let stream = TcpStream::connect(("127.0.0.1", page.port))
        .await
        .map_err(|e| e.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let request = hyper::Request::get(&page.path)
        .header(http::header::HOST, "localhost")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| e.to_string())?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| e.to_string())?;
        let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect();
        let body = body.await.map_err(|e| e.to_string())?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    // The connection has to be polled for the answer to come; it ends when the sender is gone.
    tokio::select! {
        answer = answer => answer,
        Err(error) = connection => Err(error.to_string()),
    }
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = output::stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn failed(what: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    Failure::new(Exit::Failed, format!("cannot {what} {path}: {error}"))
}
