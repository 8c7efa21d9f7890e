//! `type = "stdout"`: JSON lines, one locked write a line.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Mutex, time::timeout};

use super::{decide::Outcome, file::line};

type Sink = Box<dyn Write + Send>;

/// Standard output. A pipe that nobody reads blocks one thread at most: whoever comes meanwhile
/// waits without one, and no longer than the destination's timeout.
pub(super) struct Stdout {
    sink: Arc<Mutex<Sink>>,
    timeout: Duration,
}

impl Stdout {
    pub(super) fn new(timeout: Duration) -> Self {
        Self::over(Box::new(io::stdout()), timeout)
    }

    fn over(sink: Sink, timeout: Duration) -> Self {
        Self { sink: Arc::new(Mutex::new(sink)), timeout }
    }

    pub(super) async fn print(&self, json: &Bytes) -> Outcome {
        let line = line(json);
        let sink = self.sink.clone();
        let write = async move {
            let mut sink = sink.lock_owned().await;
            let write = move || sink.write_all(&line).and_then(|()| sink.flush());
            tokio::task::spawn_blocking(write)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        };
        match timeout(self.timeout, write).await {
            Ok(Ok(())) => Outcome::Delivered { status: None },
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                let message = "stdout is closed: whoever read it has gone".to_owned();
                Outcome::Held { status: None, message }
            }
            Ok(Err(error)) => retry(format!("stdout: {error}")),
            Err(_) => retry("stdout is not being read".to_owned()),
        }
    }
}

fn retry(message: String) -> Outcome {
    Outcome::Retry { status: None, message, retry_after: None, limit: None }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, mpsc},
        time::Duration,
    };

    use bytes::Bytes;
    use parking_lot::Mutex;

    use super::{Outcome, Stdout};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Written {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().push(data.to_vec());
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_line_is_one_write() {
        let written = Written::default();
        let stdout = Stdout::over(Box::new(written.clone()), Duration::from_secs(1));
        for json in ["{\n  \"a\": \"b\\n\"\r\n}", "2"] {
            let outcome = stdout.print(&Bytes::from_static(json.as_bytes())).await;
            assert_eq!(outcome, Outcome::Delivered { status: None });
        }
        assert_eq!(*written.0.lock(), [&b"{   \"a\": \"b\\n\"  }\n"[..], b"2\n"]);
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_closed_pipe_holds_the_destination() {
        let stdout = Stdout::over(Box::new(Closed), Duration::from_secs(1));
        let outcome = stdout.print(&Bytes::from_static(b"1")).await;
        assert!(matches!(outcome, Outcome::Held { .. }), "{outcome:?}");
    }

    /// Blocks until the other end of the channel is dropped.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.recv().unwrap_err();
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_times_out() {
        let (reader, pipe) = mpsc::channel();
        let stdout = Stdout::over(Box::new(Stuck(pipe)), Duration::from_millis(20));
        for _ in 0..3 {
            let outcome = stdout.print(&Bytes::from_static(b"1")).await;
            assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
        }
        drop(reader);
    }
}
