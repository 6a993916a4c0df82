//! All threads of a process move, or none: threads of every kind, each test in a process of its own.
//!
//! # Safety
//!
//! System calls with integers, or with structures of this file's that outlive them.
#![allow(unsafe_code)]
#![allow(clippy::expect_used, reason = "in a test a panic is how it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use linux_clone_process::{ThreadFailure, WorkingDirectory, setns_all, unshare_all};
use linux_clone_syscalls::{CloneFlags, Errno, PidfdFlags, pidfd_open};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

mod alone;

use alone::alone;

fn gettid() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// Each thread with its link of this type of namespace.
fn links(kind: &str) -> BTreeSet<(i32, String)> {
    fs::read_dir("/proc/self/task")
        .expect("/proc/self/task")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // One that has ended meanwhile has none.
            let target = fs::read_link(entry.path().join("ns").join(kind)).ok()?;
            let tid = entry.file_name().to_str()?.parse().ok()?;
            Some((tid, target.display().to_string()))
        })
        .collect()
}

/// The namespaces of this type that the threads are in.
fn namespaces(kind: &str) -> BTreeSet<String> {
    links(kind).into_iter().map(|(_, target)| target).collect()
}

const KINDS: [(&str, CloneFlags); 5] = [
    ("mnt", CloneFlags::NEWNS),
    ("uts", CloneFlags::NEWUTS),
    ("ipc", CloneFlags::NEWIPC),
    ("net", CloneFlags::NEWNET),
    ("cgroup", CloneFlags::NEWCGROUP),
];

fn all_kinds() -> CloneFlags {
    KINDS.iter().fold(CloneFlags::empty(), |all, (_, flag)| all.union(*flag))
}

/// Every thread of this process is in the same namespaces, and these are others than `before`.
fn assert_moved(flags: CloneFlags, before: &[BTreeSet<String>; 5]) {
    for ((kind, flag), before) in KINDS.iter().zip(before) {
        let now = namespaces(kind);
        assert_eq!(now.len(), 1, "one {kind} namespace for all: {:?}", links(kind));
        assert_eq!(now != *before, flags.contains(*flag), "{kind}: {before:?} became {now:?}");
    }
}

fn everything() -> [BTreeSet<String>; 5] {
    KINDS.map(|(kind, _)| namespaces(kind))
}

/// What must be as before: descriptors, children, and the calling thread's signal mask.
#[derive(Debug, PartialEq, Eq)]
struct Belongings {
    descriptors: usize,
    children: String,
    blocked: Option<String>,
    mappings_of_stacks: usize,
}

fn belongings() -> Belongings {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc/self/task");
    let children = tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .collect::<Vec<_>>()
        .concat();
    let status = fs::read_to_string("/proc/thread-self/status").expect("/proc/thread-self/status");
    let shared = fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
    Belongings {
        descriptors: fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count(),
        children,
        blocked: status.lines().find(|line| line.starts_with("SigBlk")).map(str::to_owned),
        mappings_of_stacks: shared.lines().filter(|line| line.contains("/dev/zero")).count(),
    }
}

/// A thread that does `prepare`, says that it has, and does `work` until it is told to end.
struct Other {
    tid: i32,
    end: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

impl Other {
    fn start(prepare: impl FnOnce() + Send + 'static, work: impl Fn() + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel();
        let ended = Arc::clone(&end);
        let handle = thread::spawn(move || {
            prepare();
            sender.send(gettid()).expect("someone waits");
            while !ended.load(Ordering::Relaxed) {
                work();
            }
        });
        Self { tid: receiver.recv().expect("it starts"), end, handle }
    }

    fn end(self) {
        self.end.store(true, Ordering::Relaxed);
        self.handle.join().expect("it did not panic");
    }
}

fn join_all(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("it did not panic");
    }
}

fn rest() {
    thread::sleep(Duration::from_millis(1));
}

fn errno_of(result: Result<WorkingDirectory, ThreadFailure>) -> (Errno, &'static str, Option<i32>) {
    let failure = result.expect_err("this has to fail");
    (failure.failure.errno, failure.failure.call, failure.thread)
}

fn drop_capabilities() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    // capability.h: _LINUX_CAPABILITY_VERSION_3, and two sets of three words, all empty.
    let header = Header { version: 0x2008_0522, pid: 0 };
    let data = [0_u32; 6];
    // SAFETY: both structures are as the version says, and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    assert_eq!(result, 0);
}

/// A filter for this thread alone, that answers `call` with `answer`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an instruction's fields")]
fn refuse(call: libc::c_long, answer: u32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: call as u32,
        },
        statement(libc::BPF_RET | libc::BPF_K, answer),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0);
    // SAFETY: the program and its instructions outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    assert_eq!(result, 0);
}

#[allow(clippy::cast_sign_loss, reason = "an errno is positive")]
fn refuse_with(call: libc::c_long, errno: Errno) {
    refuse(call, libc::SECCOMP_RET_ERRNO | errno as u32);
}

/// With a thread that was prepared like this, every kind fails with one of `expected` and nothing has moved; and once
/// that thread has ended, everything works.
fn nothing_moves(prepare: fn(), expected: &[Errno]) {
    let others: Vec<_> = (0..3).map(|_| Other::start(|| (), rest)).collect();
    let unable = Other::start(prepare, rest);
    let (before, owned) = (everything(), belongings());
    for flags in KINDS.iter().map(|(_, flag)| *flag).chain([all_kinds()]) {
        let (errno, call, thread) = errno_of(unshare_all(flags, true));
        assert!(expected.contains(&errno), "{flags:?}: {errno:?}, {call}");
        assert_eq!(thread, Some(unable.tid), "{flags:?}: {errno:?}, {call}");
        assert_eq!(everything(), before, "{flags:?} has moved some");
        assert_eq!(belongings(), owned, "{flags:?} has left something");
    }
    unable.end();
    unshare_all(all_kinds(), true).expect("all can follow");
    assert_moved(all_kinds(), &before);
    others.into_iter().for_each(Other::end);
}

/// Every kind, and all at once, works while these threads are at it.
fn everything_moves() {
    for flags in KINDS.iter().map(|(_, flag)| *flag).chain([all_kinds()]) {
        let before = everything();
        unshare_all(flags, true).expect("all can follow");
        assert_moved(flags, &before);
    }
}

static BLOCKED_SIGNALS_LEFT: AtomicBool = AtomicBool::new(false);

/// The mask with everything that can be blocked.
fn block_everything() {
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).expect("the set is right");
}

fn semaphore_value(set: i32) -> i32 {
    // SAFETY: integers only.
    unsafe { libc::semctl(set, 0, libc::GETVAL) }
}

/// Adds one, to be undone when the adjustments of the thread end.
fn raise(set: i32) {
    #[allow(clippy::cast_possible_truncation, reason = "a flag of 16 bits")]
    let mut operation = libc::sembuf { sem_num: 0, sem_op: 1, sem_flg: libc::SEM_UNDO as i16 };
    // SAFETY: one operation, which outlives the call.
    let result = unsafe { libc::semop(set, &raw mut operation, 1) };
    assert_eq!(result, 0);
}

fn sleeper(arguments: &[&str]) -> std::process::Child {
    Command::new("unshare")
        .args(arguments)
        .args(["sh", "-c", "echo; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare(1)")
}

/// Until it has said that it is where it was to go.
fn wait_for_sign(child: &mut std::process::Child) {
    use std::io::Read;
    let mut sign = [0];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut sign).expect("it says so");
}

#[test]
fn threads_that_wait_follow() {
    alone("threads_that_wait_follow", || {
        let others: Vec<_> = (0..8).map(|_| Other::start(|| (), rest)).collect();
        everything_moves();
        others.into_iter().for_each(Other::end);
    });
}

#[test]
fn what_threads_cannot_have_is_refused() {
    alone("what_threads_cannot_have_is_refused", || {
        let before = everything();
        for flags in [
            CloneFlags::NEWUSER,
            CloneFlags::NEWPID,
            CloneFlags::NEWTIME,
            CloneFlags::FS,
            CloneFlags::FILES,
            CloneFlags::VM,
            CloneFlags::THREAD,
            CloneFlags::SIGHAND,
            CloneFlags::NEWUTS | CloneFlags::NEWUSER,
        ] {
            assert_eq!(errno_of(unshare_all(flags, true)), (Errno::EINVAL, "unshare", None), "{flags:?}");
        }
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_thread_without_capabilities_holds_all_back() {
    alone("a_thread_without_capabilities_holds_all_back", || {
        nothing_moves(drop_capabilities, &[Errno::EPERM]);
    });
}

#[test]
fn a_thread_whose_filter_refuses_setns_holds_all_back() {
    alone("a_thread_whose_filter_refuses_setns_holds_all_back", || {
        nothing_moves(|| refuse_with(libc::SYS_setns, Errno::EACCES), &[Errno::EACCES]);
    });
}

#[test]
fn a_thread_whose_filter_ends_it_at_setns_holds_all_back_and_lives_on() {
    alone("a_thread_whose_filter_ends_it_at_setns_holds_all_back_and_lives_on", || {
        nothing_moves(|| refuse(libc::SYS_setns, libc::SECCOMP_RET_KILL_PROCESS), &[Errno::ESRCH]);
    });
}

#[test]
fn a_thread_whose_filter_sends_a_signal_at_setns_holds_all_back_and_lives_on() {
    alone("a_thread_whose_filter_sends_a_signal_at_setns_holds_all_back_and_lives_on", || {
        nothing_moves(|| refuse(libc::SYS_setns, libc::SECCOMP_RET_TRAP), &[Errno::ESRCH]);
    });
}

#[test]
fn a_thread_whose_filter_refuses_clone_holds_all_back() {
    alone("a_thread_whose_filter_refuses_clone_holds_all_back", || {
        nothing_moves(|| refuse_with(libc::SYS_clone, Errno::EACCES), &[Errno::EACCES]);
    });
}

#[test]
fn a_thread_whose_filter_refuses_chroot_holds_a_mount_namespace_back() {
    alone("a_thread_whose_filter_refuses_chroot_holds_a_mount_namespace_back", || {
        let unable = Other::start(|| refuse_with(libc::SYS_chroot, Errno::EACCES), rest);
        let before = everything();
        for flags in [CloneFlags::NEWNS, all_kinds()] {
            let failure = errno_of(unshare_all(flags, true));
            assert_eq!(failure, (Errno::EACCES, "chroot", Some(unable.tid)), "{flags:?}");
            assert_eq!(everything(), before, "{flags:?}");
        }
        unable.end();
    });
}

#[test]
fn a_thread_that_blocks_every_signal_is_given_up_on_and_not_harmed_by_the_signal_later() {
    alone("a_thread_that_blocks_every_signal_is_given_up_on_and_not_harmed_by_the_signal_later", || {
        let unable = Other::start(block_everything, || {
            if BLOCKED_SIGNALS_LEFT.load(Ordering::Acquire) {
                pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
                    .expect("the set is right");
            }
            rest();
        });
        let (before, owned) = (everything(), belongings());
        let start = Instant::now();
        let failure = errno_of(unshare_all(CloneFlags::NEWUTS, true));
        assert_eq!(failure, (Errno::ETIMEDOUT, "tgkill", Some(unable.tid)));
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        assert_eq!(everything(), before);
        assert_eq!(belongings(), owned);
        BLOCKED_SIGNALS_LEFT.store(true, Ordering::Release);
        everything_moves();
        unable.end();
    });
}

#[test]
fn threads_in_system_calls_follow_and_go_on() {
    alone("threads_in_system_calls_follow_and_go_on", || {
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        let read = thread::spawn(move || {
            let mut byte = [0];
            nix::unistd::read(&reader, &mut byte)
        });
        let slept = thread::spawn(|| {
            let start = Instant::now();
            thread::sleep(Duration::from_secs(2));
            start.elapsed()
        });
        everything_moves();
        assert!(!read.is_finished());
        nix::unistd::write(&writer, b"x").expect("the pipe is open");
        assert_eq!(read.join().expect("it did not panic"), Ok(1));
        assert!(slept.join().expect("it did not panic") >= Duration::from_secs(2));
    });
}

#[test]
fn threads_that_spin_follow() {
    alone("threads_that_spin_follow", || {
        let counter = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&counter);
        let others: Vec<_> = (0..4)
            .map(|_| {
                let counter = Arc::clone(&counter);
                Other::start(
                    || (),
                    move || {
                        counter.fetch_add(1, Ordering::Relaxed);
                    },
                )
            })
            .collect();
        everything_moves();
        let now = progress.load(Ordering::Relaxed);
        while progress.load(Ordering::Relaxed) == now {
            thread::yield_now();
        }
        others.into_iter().for_each(Other::end);
    });
}

#[test]
fn threads_that_start_and_end_all_the_time_follow() {
    alone("threads_that_start_and_end_all_the_time_follow", || {
        let others: Vec<_> = (0..3)
            .map(|_| {
                Other::start(
                    || (),
                    || {
                        let children: Vec<_> = (0..4).map(|_| thread::spawn(thread::yield_now)).collect();
                        join_all(children);
                    },
                )
            })
            .collect();
        for _ in 0..30 {
            let before = namespaces("uts");
            unshare_all(CloneFlags::NEWUTS, true).expect("all can follow");
            let now = namespaces("uts");
            assert_eq!(now.len(), 1, "{:?}", links("uts"));
            assert_ne!(now, before);
        }
        others.into_iter().for_each(Other::end);
    });
}

#[test]
fn a_thread_that_is_just_starting_is_not_taken_for_the_inspector() {
    alone("a_thread_that_is_just_starting_is_not_taken_for_the_inspector", || {
        let named = |work: fn()| Builder::new().name("node".into()).spawn(work).expect("a thread");
        let others: Vec<_> = (0..3)
            .map(|_| {
                Other::start(
                    || (),
                    move || {
                        let children: Vec<_> = (0..4).map(|_| named(thread::yield_now)).collect();
                        join_all(children);
                    },
                )
            })
            .collect();
        // Threads inherit the name, and with it block all signals until they have started.
        let spawner = |end: Arc<AtomicBool>| {
            Builder::new().name("node".into()).spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    thread::spawn(thread::yield_now).join().expect("it did not panic");
                }
            })
        };
        let end = Arc::new(AtomicBool::new(false));
        let spawners: Vec<_> = (0..4).map(|_| spawner(Arc::clone(&end)).expect("a thread")).collect();
        for round in 0..200 {
            unshare_all(CloneFlags::NEWUTS, true).expect("all can follow");
            let now = namespaces("uts");
            assert_eq!(now.len(), 1, "round {round}: {:?}", links("uts"));
        }
        end.store(true, Ordering::Relaxed);
        join_all(spawners);
        others.into_iter().for_each(Other::end);
    });
}

#[test]
fn threads_that_allocate_do_not_hold_it_up() {
    alone("threads_that_allocate_do_not_hold_it_up", || {
        let others: Vec<_> = (0..4)
            .map(|number: usize| {
                Other::start(
                    || (),
                    move || {
                        let blocks: Vec<Vec<u8>> =
                            (1..200).map(|size| vec![1; size * 97 * (number + 1)]).collect();
                        std::hint::black_box(blocks);
                    },
                )
            })
            .collect();
        let owned = belongings();
        for _ in 0..200 {
            unshare_all(CloneFlags::SYSVSEM, true).expect("needs no privilege");
        }
        for _ in 0..50 {
            let before = everything();
            unshare_all(CloneFlags::NEWUTS, true).expect("all can follow");
            assert_moved(CloneFlags::NEWUTS, &before);
        }
        assert_eq!(belongings(), owned);
        others.into_iter().for_each(Other::end);
    });
}

#[test]
fn semaphore_adjustments_become_each_threads_own() {
    alone("semaphore_adjustments_become_each_threads_own", || {
        // SAFETY: integers only.
        let set = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        assert!(set >= 0);
        let go = Arc::new(AtomicBool::new(false));
        let started: Vec<_> = (0..2)
            .map(|_| {
                let go = Arc::clone(&go);
                thread::spawn(move || {
                    while !go.load(Ordering::Acquire) {
                        rest();
                    }
                    raise(set);
                })
            })
            .collect();
        thread::spawn(move || raise(set)).join().expect("it did not panic");
        let shared = semaphore_value(set);
        unshare_all(CloneFlags::SYSVSEM, true).expect("needs no privilege");
        let given_up = semaphore_value(set);
        go.store(true, Ordering::Release);
        join_all(started);
        // A thread is joined before the kernel is done with its end: that comes when its task has gone.
        while links("uts").len() > 2 {
            rest();
        }
        let own = semaphore_value(set);
        // SAFETY: integers only.
        unsafe { libc::semctl(set, 0, libc::IPC_RMID) };
        assert_eq!((shared, given_up, own), (1, 0, 0));
    });
}

#[test]
fn nothing_is_left_of_success_or_failure() {
    alone("nothing_is_left_of_success_or_failure", || {
        let other = Other::start(|| (), rest);
        let mut some = SigSet::empty();
        some.add(nix::sys::signal::Signal::SIGUSR2);
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&some), None).expect("the set is right");
        let owned = belongings();
        everything_moves();
        assert_eq!(belongings(), owned);
        let closed = fs::File::open("/dev/null").expect("/dev/null");
        let owned = belongings();
        let failure = errno_of(setns_all(closed.as_raw_fd(), CloneFlags::empty(), true));
        assert_eq!((failure.0, failure.1), (Errno::EINVAL, "setns"));
        assert_eq!(belongings(), owned);
        other.end();
    });
}

#[test]
fn every_thread_enters_the_namespaces_of_a_process() {
    alone("every_thread_enters_the_namespaces_of_a_process", || {
        let others: Vec<_> = (0..4).map(|_| Other::start(|| (), rest)).collect();
        let mut target = sleeper(&["--mount", "--uts", "--ipc", "--net", "--cgroup"]);
        wait_for_sign(&mut target);
        let theirs = |kind: &str| {
            let link = fs::read_link(format!("/proc/{}/ns/{kind}", target.id())).expect("it runs");
            BTreeSet::from([link.display().to_string()])
        };
        let expected = KINDS.map(|(kind, _)| theirs(kind));
        let pid = nix::unistd::Pid::from_raw(i32::try_from(target.id()).expect("a pid"));
        let pidfd: OwnedFd = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
        assert!(pidfd.as_raw_fd() > 2);
        setns_all(pidfd.as_raw_fd(), all_kinds(), true).expect("all can follow");
        assert_eq!(everything(), expected);
        drop(target.stdin.take());
        target.wait().expect("it is our child");
        others.into_iter().for_each(Other::end);
    });
}

#[test]
fn a_user_or_time_namespace_is_refused_and_nothing_moves() {
    alone("a_user_or_time_namespace_is_refused_and_nothing_moves", || {
        let other = Other::start(|| (), rest);
        let mut target = sleeper(&["--user", "--map-root-user", "--uts", "--net"]);
        wait_for_sign(&mut target);
        let (before, owned) = ([everything().to_vec(), vec![namespaces("user")]], belongings());
        let pid = nix::unistd::Pid::from_raw(i32::try_from(target.id()).expect("a pid"));
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
        let with_user = CloneFlags::NEWUSER | CloneFlags::NEWUTS | CloneFlags::NEWNET;
        assert_eq!(errno_of(setns_all(pidfd.as_raw_fd(), with_user, true)).0, Errno::EINVAL);
        let with_time = CloneFlags::NEWTIME | CloneFlags::NEWUTS | CloneFlags::NEWNET;
        assert_eq!(errno_of(setns_all(pidfd.as_raw_fd(), CloneFlags::NEWTIME, true)).0, Errno::EUSERS);
        let failure = errno_of(setns_all(pidfd.as_raw_fd(), with_time, true)).0;
        assert!([Errno::EUSERS, Errno::EPERM].contains(&failure), "{failure:?}");
        drop(pidfd);
        assert_eq!([everything().to_vec(), vec![namespaces("user")]], before);
        assert_eq!(belongings().children, owned.children);
        drop(target.stdin.take());
        target.wait().expect("it is our child");
        other.end();
    });
}

#[test]
fn two_threads_that_move_all_wait_for_each_other() {
    alone("two_threads_that_move_all_wait_for_each_other", || {
        let rounds = Arc::new(AtomicI32::new(0));
        let movers: Vec<_> = (0..3)
            .map(|_| {
                let rounds = Arc::clone(&rounds);
                thread::spawn(move || {
                    for _ in 0..20 {
                        unshare_all(CloneFlags::NEWUTS, true).expect("all can follow");
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        join_all(movers);
        assert_eq!(rounds.load(Ordering::Relaxed), 60);
        assert_eq!(namespaces("uts").len(), 1);
    });
}

#[test]
fn only_one_thread_is_taken_for_the_inspector() {
    alone("only_one_thread_is_taken_for_the_inspector", || {
        let deaf = |name: &str| {
            let (sender, receiver) = mpsc::channel();
            let (end, ended) = mpsc::channel::<()>();
            let body = move || {
                block_everything();
                sender.send(gettid()).expect("someone waits");
                // It waits on a futex until the other side is dropped.
                ended.recv().expect_err("nothing is sent");
            };
            let handle = Builder::new().name(name.into()).spawn(body).expect("a thread");
            (receiver.recv().expect("it starts"), end, handle)
        };
        let (_, end_first, first) = deaf("SignalInspector");
        let (second, end_second, other) = deaf("other");
        let before = everything();
        // When it is found, and when it is known.
        for _ in 0..2 {
            let failure = errno_of(unshare_all(CloneFlags::NEWUTS, true));
            assert_eq!(failure, (Errno::ETIMEDOUT, "tgkill", Some(second)));
        }
        assert_eq!(everything(), before);
        drop(end_second);
        other.join().expect("it did not panic");
        unshare_all(CloneFlags::NEWUTS, true).expect("all others can follow");
        drop(end_first);
        first.join().expect("it did not panic");
    });
}
