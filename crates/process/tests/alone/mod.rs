//! Tests in processes of their own.

use std::env;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const ALONE: &str = "LINUX_CLONE_ALONE";

/// No test takes nearly as long, but for a deadlock.
const LIMIT: Duration = Duration::from_secs(90);

/// Runs `body` in a process of its own, which is root at least of a user namespace; `name` is the test's.
pub fn alone(name: &str, body: fn()) {
    if env::var(ALONE).is_ok_and(|only| only == name) {
        return body();
    }
    let executable = env::current_exe().expect("the test's own path");
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new(executable)
    } else {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).arg(executable);
        command
    };
    let child = command
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test can start itself");
    let pid = i32::try_from(child.id()).expect("a pid");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(LIMIT) else {
        // SAFETY: integers only; the child is not reaped, so that the pid is its own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        panic!("the process of {name} hangs");
    };
    let output = output.expect("the output of the child");
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{name} is no test's name");
}
