//! What is done before a container is asked to stop.

use std::time::Duration;

use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use windlass_api::{duration::Span, spec::PreStop};

use crate::{
    plan::StopManner,
    probe,
    runtime::{ContainerId, ExecOutcome, Runtime},
};

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
        let (begun, _) = oneshot::channel();
        let outcome = runtime.exec(container, &exec.command, within, begun).await;
        match outcome.map_err(|error| error.message)? {
            ExecOutcome::Exited { code: 0, .. } => {}
            ExecOutcome::Exited { code, output } => {
                return Err(format!("the command ended with {code}: {}", output.text()));
            }
            ExecOutcome::TimedOut { .. } => return Err("the command did not end".to_owned()),
        }
    }
    if let Some(http) = &pre_stop.http {
        probe::get(http, manner.address).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
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
    async fn a_request_is_made_before_the_stop() {
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
        let http = json!({ "port": port, "path": "/drain?now", "headers": { "X-Who": "agent" } });
        let draining = PreStop {
            http: Some(serde_json::from_value(http).unwrap()),
            ..nothing()
        };
        let (fake, container) = (Fake::default(), ContainerId("c1".to_owned()));
        // That it is not well is logged, and no more.
        let seen = carry_out(&fake, &container, &draining, &manner(draining.clone())).await;
        assert_eq!(seen, Err(format!("GET :{port}/drain answered 503")));
        let request = served.await.unwrap().to_ascii_lowercase();
        let line = "get /drain?now http/1.1\r\n";
        assert!(request.starts_with(line), "{request}");
        assert!(request.contains("\r\nx-who: agent\r\n"), "{request}");
        // Now nobody is there.
        let left = bid(&fake, &container, &manner(draining)).await;
        assert!(left > Span::from_secs(9) && left <= Span::from_secs(10));
    }
}
