//! What runs inside the containers of the tests on a real Docker engine (`tests/docker.rs`).

use std::{env, io::Write, process, thread, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

/// How long the program waits between two lines of `tick`.
const TICK: Duration = Duration::from_millis(50);

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let number = || args.get(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    match args.first().map(String::as_str) {
        // Runs until it is asked to stop.
        None | Some("run") => {
            let mut stop = signal(SignalKind::terminate())?;
            println!("ready");
            stop.recv().await;
            println!("stopped");
        }
        // Has no handler for SIGTERM, which a first process is then not stopped by.
        Some("ignore-stop") => {
            println!("ready");
            loop {
                thread::park();
            }
        }
        Some("exit") => process::exit(number()),
        // Writes lines to standard output and error by turns.
        Some("print") => {
            for line in 0..number() {
                if line % 2 == 0 {
                    println!("line {line}");
                } else {
                    eprintln!("line {line}");
                }
                // The two are separate pipes, which Docker reads independently.
                thread::sleep(TICK);
            }
        }
        Some("tick") => {
            for line in 0.. {
                println!("tick {line}");
                std::io::stdout().flush()?;
                thread::sleep(TICK);
            }
        }
        // Uses this many mebibytes of memory.
        Some("allocate") => {
            let memory = vec![1_u8; usize::try_from(number()).unwrap_or(0) << 20];
            println!("{} bytes", memory.len());
        }
        Some("env") => {
            for (key, value) in env::vars() {
                println!("{key}={value}");
            }
        }
        Some(other) => {
            eprintln!("unknown: {other}");
            process::exit(64);
        }
    }
    Ok(())
}
