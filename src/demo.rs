//! `windlass demo`: a small HTTP server for examples and tests, which misbehaves when told to.
//!
//! It runs as the only process of an otherwise empty image, so it answers for what an init
//! process answers for: signals that it does not handle would be ignored by the kernel.

use std::{
    io::{self, Write},
    process,
    sync::Arc,
    time::Duration,
};

use clap::{Args, builder::FalseyValueParser};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    time::{self, Instant},
};
use windlass_api::duration::Span;

use self::pages::{Pages, Schedule};
use crate::{
    commands::block_on,
    error::{Exit, Failure},
};

mod health;
mod pages;

/// How many connections are served at once; more wait in the kernel. Each costs a few kilobytes
/// of the 16 MiB that the demo is meant to live in.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send a request.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Serve HTTP for examples and tests.
///
/// GET / says who answers; GET /livez (or /healthz) whether it is healthy, as POST /healthy and
/// /unhealthy decide; GET /readyz whether it is ready, as POST /ready and /unready decide; both also
/// as the services liveness and readiness of the gRPC health protocol. GET /env lists the variables
/// DEMO_*. POST /exit?code=N exits, /hang stops answering, /memory?mib=N uses memory.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The port to listen on, at all addresses
    #[arg(long, env = "DEMO_PORT", default_value_t = 8080)]
    port: u16,
    /// Exit by itself after a while
    #[arg(long, env = "DEMO_EXIT_AFTER", value_name = "TIME")]
    exit_after: Option<Span>,
    /// The code to exit with then
    #[arg(long, env = "DEMO_EXIT_CODE", default_value_t = 0, value_name = "N")]
    exit_code: i32,
    /// Go on when asked to stop
    #[arg(long, env = "DEMO_IGNORE_SIGTERM", value_parser = FalseyValueParser::new())]
    ignore_sigterm: bool,
    /// Listen only after a while
    #[arg(long, env = "DEMO_START_DELAY", value_name = "TIME")]
    start_delay: Option<Span>,
    /// Be ready only a while after the start
    #[arg(long, env = "DEMO_READY_AFTER", value_name = "TIME")]
    ready_after: Option<Span>,
    /// Turn unhealthy for good after a while
    #[arg(long, env = "DEMO_UNHEALTHY_AFTER", value_name = "TIME")]
    unhealthy_after: Option<Span>,
}

/// Serves until it is told to stop.
pub(crate) fn run(args: Demo) -> Result<(), Failure> {
    block_on(Builder::new_current_thread(), args.run())
}

impl Demo {
    async fn run(self) -> Result<(), Failure> {
        let failed = |what: &str, error: io::Error| {
            Failure::new(Exit::Failed, format!("cannot {what}: {error}"))
        };
        let mut terminate =
            signal(SignalKind::terminate()).map_err(|e| failed("wait for SIGTERM", e))?;
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(|e| failed("wait for SIGINT", e))?;
        let serving = self.serve();
        tokio::pin!(serving);
        let exit_after = async {
            match self.exit_after {
                Some(span) => time::sleep(span.as_std()).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(exit_after);
        loop {
            tokio::select! {
                result = &mut serving => return result.map_err(|e| failed("serve", e)),
                () = &mut exit_after => exit(self.exit_code, "time is up"),
                _ = terminate.recv() => match self.ignore_sigterm {
                    true => say("ignoring SIGTERM"),
                    false => exit(0, "stopping on SIGTERM"),
                },
                _ = interrupt.recv() => exit(0, "stopping on SIGINT"),
            }
        }
    }

    async fn serve(&self) -> io::Result<()> {
        let from = |span: Option<Span>| span.map(|span| Instant::now() + span.as_std());
        let schedule = Schedule {
            ready_from: from(self.ready_after),
            unhealthy_from: from(self.unhealthy_after),
        };
        if let Some(delay) = self.start_delay {
            say(&format!("starting in {delay}"));
            time::sleep(delay.as_std()).await;
        }
        let listener = TcpListener::bind(("0.0.0.0", self.port)).await?;
        let pages = Arc::new(Pages::from_environment(schedule));
        say(&format!(
            "{} listens on port {}",
            pages.who(),
            listener.local_addr()?.port()
        ));
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let permit = Arc::clone(&connections)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            let pages = Arc::clone(&pages);
            tokio::spawn(async move {
                serve_connection(stream, pages).await;
                drop(permit);
            });
        }
    }
}

/// Serves a client, in HTTP or gRPC.
async fn serve_connection(stream: TcpStream, pages: Arc<Pages>) {
    let served = match time::timeout(REQUEST_LIMIT, health::is_asked(&stream)).await {
        Ok(Ok(true)) => health::serve(stream, pages).await,
        Ok(Ok(false)) => {
            let answer = service_fn(|request| pages.answer(request));
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_LIMIT)
                .serve_connection(TokioIo::new(stream), answer)
                .await
        }
        // It came and went, as a TCP probe does, or said nothing.
        Ok(Err(_)) | Err(_) => return,
    };
    if let Err(error) = served {
        say(&format!("connection: {error}"));
    }
}

/// Writes a line of the log. There is nobody to tell if that fails.
fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// Ends the process at once, as a container that stops does.
fn exit(code: i32, why: &str) -> ! {
    say(why);
    process::exit(code)
}
