//! A program that answers requests by its standard output. Whatever goes wrong with it is a sentence with its last words.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::External;
use crate::error::{Error, Result};
use crate::words::{QUOTED, shorten};

/// Lines of its standard error that an error repeats.
const LAST_WORDS: usize = 20;

/// The time that a program may take to end after its input has ended.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Child {
    task: String,
    program: String,
    timeout: Duration,
    process: std::process::Child,
    input: Option<ChildStdin>,
    /// Its output, piece by piece, from a thread that waits for it: a wait without a thread knows no end.
    output: Receiver<Vec<u8>>,
    /// The part of the output that has not been read yet.
    pending: VecDeque<u8>,
    words: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
}

impl Child {
    pub(super) fn start(external: &External) -> Result<Child> {
        let failed = |what: String| Error::Task { task: external.name.clone(), what };
        let Some((program, arguments)) = external.command.split_first() else { return Err(failed("no program is named".into())) };
        let mut command = Command::new(program);
        // Ctrl-C in a terminal goes to a whole group of processes: a run that it stops still needs the program to end its step.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| failed(format!("the program '{}' cannot be started: {e}", shorten(program, QUOTED))))?;
        let (send, output) = channel();
        let mut stdout = process.stdout.take().expect("piped");
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(got @ 1..) = stdout.read(&mut buffer) {
                if send.send(buffer[..got].to_vec()).is_err() {
                    break;
                }
            }
        });
        let (words, stderr) = (Arc::new(Mutex::new(VecDeque::new())), process.stderr.take().expect("piped"));
        let heard = Arc::clone(&words);
        let listener = std::thread::spawn(move || {
            // By bytes, since what a program says need not be text, and never more of a line than an error has room for.
            let mut reader = BufReader::new(stderr);
            let mut line = Vec::new();
            while (&mut reader).take(4096).read_until(b'\n', &mut line).is_ok_and(|got| got > 0) {
                let mut words = heard.lock().unwrap_or_else(|e| e.into_inner());
                words.push_back(String::from_utf8_lossy(&line).trim_end().to_string());
                if words.len() > LAST_WORDS {
                    words.pop_front();
                }
                line.clear();
            }
        });
        Ok(Child {
            task: external.name.clone(),
            program: program.clone(),
            timeout: external.timeout,
            input: process.stdin.take(),
            process,
            output,
            pending: VecDeque::new(),
            words,
            listener: Some(listener),
        })
    }

    /// Sends a request. The program reads nothing else, so the pipe has room for it.
    pub(super) fn send(&mut self, request: &[u8]) -> Result<()> {
        let Some(input) = &mut self.input else { return Err(self.fault("the program was asked to end before")) };
        let sent = input.write_all(request).and_then(|()| input.flush());
        sent.map_err(|e| self.gone(&format!("would not take a request ({e})")))
    }

    /// The next `length` bytes, of what is called `what` in errors.
    pub(super) fn bytes(&mut self, length: usize, what: &str) -> Result<Vec<u8>> {
        let deadline = Instant::now() + self.timeout;
        while self.pending.len() < length {
            self.wait(deadline, what)?;
        }
        Ok(self.pending.drain(..length).collect())
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self, what: &str) -> Result<Vec<u8>> {
        const MOST: usize = 1 << 26;
        let (deadline, mut searched) = (Instant::now() + self.timeout, 0);
        loop {
            if let Some(at) = self.pending.iter().skip(searched).position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.pending.drain(..searched + at + 1).collect();
                line.pop();
                return Ok(line);
            }
            searched = self.pending.len();
            if searched > MOST {
                return Err(self.fault(&format!("{searched} bytes without the end of a line came where {what} was asked for")));
            }
            self.wait(deadline, what)?;
        }
    }

    fn wait(&mut self, deadline: Instant, what: &str) -> Result<()> {
        match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(piece) => {
                self.pending.extend(piece);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => {
                let text =
                    format!("the program '{}' did not answer within {} s; {what} was asked for", self.program, self.timeout.as_secs_f32());
                Err(self.fault(&text))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.gone(&format!("ended while {what} was asked for"))),
        }
    }

    /// The error of a program that is no longer there.
    fn gone(&mut self, what: &str) -> Error {
        let status = self.end().map_or("it still runs".into(), |status| status.to_string());
        self.fault(&format!("the program '{}' {what} ({status})", shorten(&self.program, QUOTED)))
    }

    /// The error of a program that is of no use: it may end, so that all that it said has arrived.
    pub(super) fn useless(&mut self, what: &str) -> Error {
        self.end();
        self.fault(what)
    }

    /// Ends the program's input, so that it ends.
    pub(super) fn close(&mut self) {
        self.input = None;
    }

    /// Ends the program's input, and says how the program ended if it does so soon.
    fn end(&mut self) -> Option<ExitStatus> {
        self.close();
        let status = self.ended()?;
        // All it said has arrived when the pipe is closed.
        self.listener.take().map(JoinHandle::join);
        Some(status)
    }

    /// An error with the program's last words.
    pub(super) fn fault(&self, what: &str) -> Error {
        let words = self.words.lock().unwrap_or_else(|e| e.into_inner());
        let said = words.iter().filter(|line| !line.trim().is_empty()).cloned().collect::<Vec<_>>().join(" | ");
        let what = if said.is_empty() { what.into() } else { format!("{what}; its last words: {said}") };
        Error::Task { task: self.task.clone(), what }
    }

    /// The exit of the program, if it ends soon.
    fn ended(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                _ => return None,
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.close();
        if self.ended().is_none() {
            // It may have ended in between, and then there is nothing to end.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
