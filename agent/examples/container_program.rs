//! What runs inside the containers of the tests on a real Docker engine (`tests/docker.rs`).

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process, thread,
    time::Duration,
};

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
        // Does nothing, as a pause container.
        Some("pause") => {
            signal(SignalKind::terminate())?.recv().await;
        }
        // Adds a line to a file.
        Some("note") => note(&args[1], &args[2])?,
        // Fails until it was run so many times, which it counts in a file.
        Some("fail-until") => {
            note(&args[1], "tried")?;
            let tries = fs::read_to_string(&args[1])?.lines().count();
            process::exit(if tries < args[2].parse().unwrap_or(0) {
                9
            } else {
                0
            });
        }
        // Answers on this port of its own network only.
        Some("answer") => {
            answer(&args[1])?;
            signal(SignalKind::terminate())?.recv().await;
        }
        // Asks on this port of its own network, shows a file and one with the answers, and runs
        // until it is stopped.
        Some("ask") => {
            ask(&args[1..]).await?;
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

fn note(file: &str, line: &str) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().append(true).create(true).open(file);
    writeln!(file?, "{line}")
}

fn answer(port: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap_or(0)))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // One that hung up needs no answer.
            let _ = stream.write_all(b"hello");
        }
    });
    Ok(())
}

async fn ask(args: &[String]) -> std::io::Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let port = args[0].parse().unwrap_or(0);
    let mut answer = String::new();
    // Its neighbour was started before, and listens soon.
    let mut neighbour = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(_) => thread::sleep(TICK),
        }
    };
    neighbour.read_to_string(&mut answer)?;
    note(&args[2], &answer)?;
    for file in &args[1..] {
        print!("{}", fs::read_to_string(file)?);
    }
    stop.recv().await;
    Ok(())
}
