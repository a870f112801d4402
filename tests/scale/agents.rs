//! Agents that are real to a server, and have no engine: what they are assigned runs at once.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    runtime::Runtime,
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use uuid::Uuid;
use windlass_api::{
    clock,
    ids::{AgentId, Epoch, Generation, InstanceId},
    quantity::{CpuMillis, MemoryBytes},
    resource::{Capacity, NodeInfo},
    status::{InstanceStatus, Phase, Readiness},
    wire::{
        AgentFrame, AssignmentFrame, Hello, Observed, ObservedInstance, PROTOCOL, RuntimeHealth,
        SESSION_PATH, Scope, ServerFrame,
    },
};

/// As the agent's own, see its `dial` and `backoff`.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
const RECONNECT_MIN: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(5);
const BUFFER_BYTES: usize = 8 << 10;
/// How long agents may take for something before it has failed.
const PATIENCE: Duration = Duration::from_secs(120);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Many agents.
pub(crate) struct Agents {
    connected: watch::Receiver<usize>,
    paused: watch::Sender<bool>,
}

impl Agents {
    /// Starts them; they go on for as long as the runtime does.
    pub(crate) fn start(runtime: &Runtime, server: SocketAddr, count: usize) -> Self {
        let (connecting, connected) = watch::channel(0);
        let (paused, pausing) = watch::channel(false);
        let connecting = Arc::new(connecting);
        for n in 0..count {
            let agent = Agent {
                name: format!("node-{n:04}"),
                id: AgentId(Uuid::new_v4()),
                server,
                connected: Arc::clone(&connecting),
                paused: pausing.clone(),
                seen: None,
                running: BTreeMap::new(),
                coming: None,
            };
            runtime.spawn(agent.run());
        }
        Self { connected, paused }
    }

    /// They dial no more until [`Agents::resume`].
    pub(crate) fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// They all dial now.
    pub(crate) fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// Waits until so many are connected, and returns how long that took.
    pub(crate) fn wait_until_connected(&self, count: usize) -> Duration {
        self.wait_until(|connected| connected == count)
    }

    pub(crate) fn wait_until_disconnected(&self) {
        self.wait_until(|connected| connected == 0);
    }

    fn wait_until(&self, holds: impl Fn(usize) -> bool) -> Duration {
        let began = Instant::now();
        loop {
            let connected = *self.connected.borrow();
            if holds(connected) {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "{connected} are connected");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

struct Agent {
    name: String,
    id: AgentId,
    server: SocketAddr,
    connected: Arc<watch::Sender<usize>>,
    paused: watch::Receiver<bool>,
    seen: Option<(Epoch, Generation)>,
    running: BTreeMap<InstanceId, InstanceStatus>,
    /// An assignment that is not whole yet.
    coming: Option<AssignmentFrame>,
}

impl Agent {
    async fn run(mut self) {
        let mut attempts = 0;
        loop {
            let mut paused = self.paused.clone();
            paused.wait_for(|paused| !paused).await.unwrap();
            if let Ok((socket, heartbeat)) = self.connect().await {
                attempts = 0;
                self.connected.send_modify(|n| *n += 1);
                // Why it ended does not matter: it is dialled again.
                let _ended = self.talk(socket, heartbeat).await;
                self.connected.send_modify(|n| *n -= 1);
            }
            if !*self.paused.borrow() {
                let longest = RECONNECT_MIN
                    .saturating_mul(1 << attempts)
                    .min(RECONNECT_MAX);
                attempts = (attempts + 1).min(10);
                sleep(longest.mul_f64(random())).await;
            }
        }
    }

    async fn connect(&mut self) -> Result<(Socket, Duration), Broken> {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES);
        let url = format!("ws://{}{SESSION_PATH}", self.server);
        let dialled = timeout(DIAL_LIMIT, async {
            let connect = connect_async_with_config(url, Some(config), true);
            let (mut socket, _) = connect.await?;
            say(&mut socket, &AgentFrame::Hello(Box::new(self.hello()))).await?;
            match hear(&mut socket).await? {
                ServerFrame::Welcome(welcome) => {
                    let heartbeat = Duration::from_millis(welcome.heartbeat_ms);
                    Ok::<_, Broken>((socket, heartbeat))
                }
                other => Err(format!("{other:?}").into()),
            }
        });
        dialled.await?
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            node: self.name.parse().unwrap(),
            info: NodeInfo {
                agent_id: self.id,
                agent_version: "0".to_owned(),
                engine_id: self.name.clone(),
                boot_id: "boot".to_owned(),
                engine_version: "0".to_owned(),
                os: "linux".to_owned(),
                arch: "x86_64".to_owned(),
            },
            capacity: Capacity {
                cpu: CpuMillis(64_000),
                memory: MemoryBytes(64 << 30),
            },
            labels: BTreeMap::new(),
            taints: Vec::new(),
            cluster: None,
            seen: self.seen,
            runtime: RuntimeHealth::Healthy,
        }
    }

    async fn talk(&mut self, mut socket: Socket, every: Duration) -> Result<(), Broken> {
        let images = (0..8).map(|n| format!("app:{n}")).collect();
        say(&mut socket, &AgentFrame::Images { images }).await?;
        self.report(&mut socket).await?;
        let mut heartbeat = interval(every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beat = 0;
        loop {
            tokio::select! {
                _ = heartbeat.tick() => {
                    beat += 1;
                    let runtime = RuntimeHealth::Healthy;
                    say(&mut socket, &AgentFrame::Heartbeat { beat, runtime }).await?;
                    socket.send(Message::Ping(Default::default())).await?;
                }
                frame = hear(&mut socket) => {
                    let is_news = match frame? {
                        ServerFrame::Lease(lease) => {
                            let every = Duration::from_millis(lease.heartbeat_ms);
                            if heartbeat.period() != every {
                                heartbeat = interval(every);
                                heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                            }
                            false
                        }
                        ServerFrame::Assignment(frame) => self.take(frame),
                        ServerFrame::Resync => true,
                        _ => false,
                    };
                    if is_news {
                        self.report(&mut socket).await?;
                    }
                }
            }
        }
    }

    /// Takes the next frame of an assignment. Returns whether it is whole with it.
    fn take(&mut self, frame: AssignmentFrame) -> bool {
        let more = frame.more;
        let mut whole = match self.coming.take() {
            None => frame,
            Some(mut whole) => {
                whole.instances.extend(frame.instances);
                whole.removed.extend(frame.removed);
                whole
            }
        };
        if more {
            self.coming = Some(whole);
            return false;
        }
        let mut old = std::mem::take(&mut self.running);
        if whole.base.is_some() {
            self.running = old.clone();
        }
        for id in &whole.removed {
            self.running.remove(id);
        }
        for instance in whole.instances.drain(..) {
            let status = old.remove(&instance.id).unwrap_or_else(running);
            self.running.insert(instance.id, status);
        }
        self.seen = Some((whole.epoch, whole.generation));
        true
    }

    async fn report(&self, socket: &mut Socket) -> Result<(), Broken> {
        let instances = self.running.iter().map(|(id, status)| ObservedInstance {
            id: id.clone(),
            status: status.clone(),
        });
        let observed = Observed {
            scope: Scope::Full,
            instances: instances.collect(),
            gone: Vec::new(),
            generation: self
                .seen
                .map_or(Generation(0), |(_, generation)| generation),
        };
        say(socket, &AgentFrame::Observed(observed)).await
    }
}

fn running() -> InstanceStatus {
    let mut status = InstanceStatus::new(Phase::Running {
        started_at: clock::now(),
    });
    status.readiness = Readiness::Ready;
    status
}

/// Any number from 0 to 1.
fn random() -> f64 {
    Uuid::new_v4().as_u64_pair().1 as f64 / u64::MAX as f64
}

async fn say(socket: &mut Socket, frame: &AgentFrame) -> Result<(), Broken> {
    let text = serde_json::to_string(frame)?;
    Ok(socket.send(Message::text(text)).await?)
}

async fn hear(socket: &mut Socket) -> Result<ServerFrame, Broken> {
    loop {
        match socket.next().await.ok_or("closed")?? {
            Message::Text(text) => return Ok(serde_json::from_str(&text)?),
            Message::Close(_) => return Err("closed".into()),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}
