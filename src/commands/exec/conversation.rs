//! What is said to a command and what it says: the protocol, wherever the person is.

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
};
use windlass_api::{
    socket::{self, Incoming, Message, Outgoing},
    wire::{Channel, Control, SignalName, TerminalSize},
};

use crate::{
    error::{Exit, Failure},
    output,
};

/// How much of the input is read at a time, in bytes.
const PIECE_BYTES: usize = 32 << 10;

/// Where a person is.
pub(super) struct Person<I, O, E> {
    /// What they type; absent: nothing.
    pub(super) input: Option<I>,
    /// Where they read what the command writes to its standard output.
    pub(super) output: O,
    /// Where they read what it writes to its standard error.
    pub(super) errors: E,
    /// What else they want.
    pub(super) wishes: Wishes,
}

/// What a person wants of a command besides what they type.
pub(super) struct Wishes {
    /// The size of their terminal, whenever it is another one.
    pub(super) sizes: watch::Receiver<Option<TerminalSize>>,
    /// Signals for the command.
    pub(super) signals: mpsc::Receiver<SignalName>,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Exited(u8),
    Failed { reason: String, code: Option<u8> },
}

/// Speaks with a command until it ends.
pub(super) async fn converse<S, I, O, E>(
    (outgoing, incoming): (Outgoing<S>, Incoming<S>),
    person: Person<I, O, E>,
) -> Result<End, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    E: AsyncWrite + Unpin,
{
    let Person {
        input,
        output,
        errors,
        wishes,
    } = person;
    // The one that is first decides; the other is not used any more.
    tokio::select! {
        ended = hear(incoming, output, errors) => ended,
        failure = speak(outgoing, input, wishes) => Err(failure),
    }
}

/// Passes on what the command writes, until it ends.
async fn hear<S: AsyncRead + AsyncWrite + Unpin>(
    mut incoming: Incoming<S>,
    mut output: impl AsyncWrite + Unpin,
    mut errors: impl AsyncWrite + Unpin,
) -> Result<End, Failure> {
    loop {
        match incoming.next().await.map_err(broken)? {
            Some(Message::Data(bytes)) => show(bytes, &mut output, &mut errors).await?,
            Some(Message::Control(Control::Exit { code })) => return Ok(End::Exited(code)),
            Some(Message::Control(Control::Failed { reason, code })) => {
                return Ok(End::Failed { reason, code });
            }
            Some(Message::Control(Control::SignalFailed { reason })) => {
                let reason = output::printable(&reason);
                output::say(&format!("{reason}; press Ctrl-C again to leave it"));
            }
            Some(Message::Control(_)) => {}
            None => {
                let why = "the command's end was not told".to_owned();
                return Err(broken(socket::Error::Closed(why)));
            }
        }
    }
}

/// Writes a piece of output to where it belongs.
async fn show(
    mut bytes: Bytes,
    output: &mut (impl AsyncWrite + Unpin),
    errors: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Failure> {
    if bytes.is_empty() {
        return Ok(());
    }
    match Channel::of(bytes.split_to(1)[0]) {
        Some(Channel::Output) => {
            output.write_all(&bytes).await?;
            output.flush().await?;
        }
        Some(Channel::Error) => {
            errors.write_all(&bytes).await?;
            errors.flush().await?;
        }
        None => {
            let why = "an output of no known kind".to_owned();
            return Err(broken(socket::Error::Malformed(why)));
        }
    }
    Ok(())
}

/// Passes on what the person says and wants. Ends only if that cannot be read.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    mut outgoing: Outgoing<S>,
    mut input: Option<impl AsyncRead + Unpin>,
    mut wishes: Wishes,
) -> Failure {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE_BYTES);
        let read = async {
            match &mut input {
                Some(input) => input.read_buf(&mut buffer).await,
                None => std::future::pending().await,
            }
        };
        // Cancel-safe, all of them: what was not taken is still there.
        let said = tokio::select! {
            biased;
            Some(signal) = wishes.signals.recv() => {
                outgoing.control(&Control::Signal { signal }).await
            }
            Ok(()) = wishes.sizes.changed() => {
                let size = *wishes.sizes.borrow_and_update();
                match size {
                    Some(size) => outgoing.control(&Control::Resize(size)).await,
                    None => Ok(()),
                }
            }
            read = read => match read {
                Ok(0) => {
                    input = None;
                    outgoing.control(&Control::Eof).await
                }
                Ok(_) => outgoing.data(buffer.split().freeze()).await,
                Err(error) => {
                    let detail = format!("cannot read standard input: {error}");
                    return Failure::new(Exit::Failed, detail);
                }
            },
        };
        // What became of the command is on its way, or the other direction says why not.
        if said.is_err() {
            return std::future::pending().await;
        }
    }
}

fn broken(error: socket::Error) -> Failure {
    Failure::new(
        Exit::NotRun,
        format!("the connection to the command broke off: {error}"),
    )
    .hint("it is told to end unless its agent was killed; what it did is not known")
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

    use super::*;

    type Stream = (Outgoing<DuplexStream>, Incoming<DuplexStream>);

    /// A conversation: the command's end of it, and what the person wants and reads.
    struct Rig {
        command: Stream,
        sizes: watch::Sender<Option<TerminalSize>>,
        signals: mpsc::Sender<SignalName>,
        output: DuplexStream,
        errors: DuplexStream,
        ended: tokio::task::JoinHandle<Result<End, Failure>>,
    }

    async fn converse_with(input: Option<&'static [u8]>) -> Rig {
        let (ours, theirs) = tokio::io::duplex(1 << 10);
        let ours = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let theirs = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        let (sizes, sizes_wanted) = watch::channel(None);
        let (signals, signals_wanted) = mpsc::channel(1);
        let (output, shown) = tokio::io::duplex(1 << 10);
        let (errors, complained) = tokio::io::duplex(1 << 10);
        let person = Person {
            input,
            output: shown,
            errors: complained,
            wishes: Wishes {
                sizes: sizes_wanted,
                signals: signals_wanted,
            },
        };
        Rig {
            command: socket::split(theirs),
            sizes,
            signals,
            output,
            errors,
            ended: tokio::spawn(converse(socket::split(ours), person)),
        }
    }

    async fn text(mut from: DuplexStream) -> String {
        let mut text = String::new();
        from.read_to_string(&mut text).await.unwrap();
        text
    }

    fn written(channel: Channel, text: &str) -> Bytes {
        [&[channel.byte()], text.as_bytes()].concat().into()
    }

    #[tokio::test]
    async fn what_a_command_writes_is_shown_where_it_belongs_until_it_ends() {
        let mut rig = converse_with(None).await;
        let (outgoing, _incoming) = &mut rig.command;
        for (channel, said) in [
            (Channel::Output, "one"),
            (Channel::Error, "two"),
            (Channel::Output, "three"),
        ] {
            outgoing.data(written(channel, said)).await.unwrap();
        }
        let exit = Control::Exit { code: 3 };
        outgoing.control(&exit).await.unwrap();
        assert_eq!(rig.ended.await.unwrap().unwrap(), End::Exited(3));
        assert_eq!(text(rig.output).await, "onethree");
        assert_eq!(text(rig.errors).await, "two");
    }

    #[tokio::test]
    async fn what_a_person_types_and_wants_reaches_the_command() {
        let mut rig = converse_with(Some(b"hello")).await;
        let (outgoing, incoming) = &mut rig.command;
        let mut heard = Vec::new();
        for _ in 0..2 {
            heard.push(incoming.next().await.unwrap().unwrap());
        }
        let data = Message::Data(Bytes::from_static(b"hello"));
        assert_eq!(heard, [data, Message::Control(Control::Eof)]);
        // Of sizes only the last one counts.
        let size = |rows| TerminalSize { rows, columns: 80 };
        rig.sizes.send_replace(Some(size(24)));
        rig.sizes.send_replace(Some(size(50)));
        let resize = incoming.next().await.unwrap().unwrap();
        assert_eq!(resize, Message::Control(Control::Resize(size(50))));
        rig.signals.send(SignalName::Int).await.unwrap();
        let signal = Control::Signal {
            signal: SignalName::Int,
        };
        let heard = incoming.next().await.unwrap().unwrap();
        assert_eq!(heard, Message::Control(signal));
        let failed = Control::failed("no such program");
        outgoing.control(&failed).await.unwrap();
        let ended = rig.ended.await.unwrap().unwrap();
        let reason = "no such program".to_owned();
        assert_eq!(ended, End::Failed { reason, code: None });
    }

    #[tokio::test]
    async fn a_conversation_that_breaks_off_is_no_end_of_the_command() {
        let rig = converse_with(None).await;
        drop(rig.command);
        let failure = rig.ended.await.unwrap().unwrap_err();
        assert!(failure.detail().contains("broke off"), "{failure}");
        let rig = converse_with(None).await;
        let (outgoing, incoming) = rig.command;
        outgoing.close(incoming).await.unwrap();
        let failure = rig.ended.await.unwrap().unwrap_err();
        assert!(failure.detail().contains("was not told"), "{failure}");
        let rig = converse_with(None).await;
        let (outgoing, incoming) = rig.command;
        let aborted = outgoing.abort(incoming, "the agent stops").await;
        aborted.unwrap();
        let failure = rig.ended.await.unwrap().unwrap_err();
        assert!(failure.detail().ends_with("the agent stops"), "{failure}");
    }
}
