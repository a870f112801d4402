//! What is done before a container is asked to stop.

use std::{net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use windlass_api::{
    duration::Span,
    spec::{HttpCheck, PortRef, PreStop},
};

use crate::{
    plan::StopManner,
    runtime::{ContainerId, ExecOutcome, Runtime},
};

/// How much of an answer is read at most, in bytes. Nobody looks at it; the server should be able
/// to say what it wants to say before the connection ends.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Does what is to be done before a container is stopped, and tells how much of its grace period
/// is left then. That it fails is only logged: the container is stopped nevertheless.
pub(super) async fn bid<R: Runtime>(
    runtime: &R,
    container: &ContainerId,
    manner: &StopManner,
) -> Span {
    let grace = manner.grace;
    let Some(pre_stop) = &manner.pre_stop else {
        return grace;
    };
    let began = Instant::now();
    let work = carry_out(runtime, container, pre_stop, manner);
    let done = timeout(grace.as_std(), work).await;
    let failure = match done {
        Ok(Ok(())) => None,
        Ok(Err(reason)) => Some(reason),
        Err(_) => Some(format!("it takes longer than the grace period of {grace}")),
    };
    if let Some(reason) = failure {
        tracing::warn!(container = container.0, reason, "preStop failed");
    }
    let left = grace.as_std().saturating_sub(began.elapsed());
    Span::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
}

async fn carry_out<R: Runtime>(
    runtime: &R,
    container: &ContainerId,
    pre_stop: &PreStop,
    manner: &StopManner,
) -> Result<(), String> {
    if let Some(time) = pre_stop.sleep {
        sleep(time.as_std()).await;
    }
    if let Some(exec) = &pre_stop.exec {
        let within: Duration = manner.grace.as_std();
        let outcome = runtime.exec(container, &exec.command, within).await;
        match outcome.map_err(|error| error.message)? {
            ExecOutcome::Exited { code: 0, .. } => {}
            ExecOutcome::Exited { code, output } => {
                return Err(format!("the command ended with {code}: {}", output.text()));
            }
            ExecOutcome::TimedOut { .. } => return Err("the command did not end".to_owned()),
        }
    }
    if let Some(http) = &pre_stop.http {
        let address = manner.address.ok_or("the container has no address")?;
        get(address, http).await?;
    }
    Ok(())
}

/// Makes a request, whatever its answer.
async fn get(address: IpAddr, check: &HttpCheck) -> Result<(), String> {
    let PortRef::Number(port) = check.port else {
        return Err(format!("the port `{}` is not known by number", check.port));
    };
    let failed = |error: std::io::Error| format!("GET :{port}{}: {error}", check.path);
    let mut stream = TcpStream::connect((address, port)).await.map_err(failed)?;
    let mut request = format!("GET {} HTTP/1.1\r\nConnection: close\r\n", check.path);
    if !check
        .headers
        .keys()
        .any(|name| name.eq_ignore_ascii_case("host"))
    {
        request.push_str(&format!(
            "Host: {}\r\n",
            std::net::SocketAddr::new(address, port)
        ));
    }
    for (name, value) in &check.headers {
        request.push_str(&format!("{name}: {}\r\n", value.0));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    let mut limited = stream.take(ANSWER_BYTES_MAX);
    limited.read_to_end(&mut answer).await.map_err(failed)?;
    if answer.is_empty() {
        return Err(format!("GET :{port}{}: no answer", check.path));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use windlass_api::spec::ExecCheck;

    use super::*;
    use crate::{
        fake::Fake,
        testing::{instance, owner},
    };

    fn manner(pre_stop: PreStop) -> StopManner {
        StopManner {
            grace: Span::from_secs(10),
            pre_stop: Some(pre_stop),
            address: Some("127.0.0.1".parse().unwrap()),
        }
    }

    fn nothing() -> PreStop {
        PreStop {
            exec: None,
            http: None,
            sleep: None,
        }
    }

    fn exec(command: &str) -> PreStop {
        PreStop {
            exec: Some(ExecCheck {
                command: vec![command.to_owned()],
            }),
            ..nothing()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_takes_is_taken_from_the_grace_period() {
        let fake = Fake::default();
        let container = fake.run(&owner(), &instance("web-0-1"));
        fake.set_exec(&["quick"], Duration::from_secs(4), 0, "");
        fake.set_exec(&["failing"], Duration::from_secs(3), 1, "no");
        fake.set_exec(&["endless"], Duration::from_secs(60), 0, "");
        let sleeping = PreStop {
            sleep: Some(Span::from_secs(9)),
            ..nothing()
        };
        for (pre_stop, left) in [
            (exec("quick"), 6),
            (exec("failing"), 7),
            (exec("endless"), 0),
            (sleeping, 1),
            (nothing(), 10),
        ] {
            let span = bid(&fake, &container, &manner(pre_stop)).await;
            assert_eq!(span, Span::from_secs(left));
        }
        assert_eq!(fake.executed().len(), 3);
    }

    #[tokio::test]
    async fn a_request_is_made_and_its_answer_ignored() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            let answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let check: HttpCheck = serde_json::from_value(serde_json::json!({
            "port": port, "path": "/drain?now", "headers": { "X-Who": "agent" },
        }))
        .unwrap();
        get("127.0.0.1".parse().unwrap(), &check).await.unwrap();
        let request = served.await.unwrap();
        assert!(
            request.starts_with("GET /drain?now HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains("\r\nX-Who: agent\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nHost: 127.0.0.1:{port}\r\n")));
    }
}
