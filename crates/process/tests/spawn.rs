//! Programs in namespaces: what they see, what is left where a step fails, and that a child allocates nothing.
//!
//! # Safety
//!
//! System calls with integers, and an allocator that passes everything on.
#![allow(unsafe_code)]
#![allow(clippy::expect_used, reason = "in a test a panic is how it fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CString, c_int, c_void};
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use linux_clone_process::id_maps::{IdMapping, IdMappings, IdMaps};
use linux_clone_process::setup::Setup;
use linux_clone_process::spawn::{
    Limits, Pipe, Program, Request, Spawned, own_environment, spawn, spawn_sync,
};
use linux_clone_process::{ExitStatus, Mount, StepFailure, wait, wait_for_program};
use linux_clone_syscalls::{CloneFlags, Errno, Instruction, MountFlags, RESOURCES, ResourceLimit};

mod alone;

use alone::alone;

/// Passes on to the system's allocator, and notes who else than this process asks for memory.
struct Watching;

static OWNER: AtomicI32 = AtomicI32::new(0);
static CHILD_HAS_ALLOCATED: AtomicBool = AtomicBool::new(false);

fn note() {
    let owner = OWNER.load(Ordering::Relaxed);
    // SAFETY: no arguments; the libc could have remembered the pid.
    if owner != 0 && unsafe { libc::syscall(libc::SYS_getpid) } != libc::c_long::from(owner) {
        CHILD_HAS_ALLOCATED.store(true, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        note();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

const CONTAINER: CloneFlags = CloneFlags::NEWNS
    .union(CloneFlags::NEWUTS)
    .union(CloneFlags::NEWIPC)
    .union(CloneFlags::NEWNET)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWCGROUP);

fn c(text: impl AsRef<str>) -> CString {
    CString::new(text.as_ref()).expect("no NUL byte")
}

fn program(args: &[&str]) -> Request {
    Request {
        program: Program {
            file: c(args[0]),
            args: args.iter().copied().map(c).collect(),
            env: own_environment(),
        },
        stdio: vec![None; 3],
        is_detached: false,
        setup: Setup::default(),
        has_init: false,
        death_signal: None,
        cgroup: None,
    }
}

fn shell(script: &str) -> Request {
    program(&["sh", "-c", script])
}

/// With a tree, hosts, processes and a network of its own.
fn container(script: &str) -> Request {
    let setup = Setup {
        unshare: CONTAINER,
        propagation: Some(MountFlags::MS_PRIVATE),
        proc: Some(c("/proc")),
        ..Setup::default()
    };
    Request { setup, has_init: true, ..shell(script) }
}

fn in_user_namespace(mut request: Request) -> Request {
    request.setup.unshare |= CloneFlags::NEWUSER;
    let root = || Some(IdMappings::Root);
    request.setup.id_maps = IdMaps { uids: root(), gids: root(), allow_setgroups: None };
    request
}

fn end_of(spawned: &Spawned) -> ExitStatus {
    let report = spawned.report.as_ref().map(AsFd::as_fd);
    wait_for_program(spawned.pidfd.as_fd(), report, true).expect("it is our child").expect("it has ended")
}

/// What it writes, once it has ended well.
fn output_of(request: Request) -> String {
    let pipes = [1, 2].map(|fd| Pipe { fd, input: None }).to_vec();
    let limits = Limits { timeout: None, output: None, kill_signal: libc::SIGKILL };
    let finished = spawn_sync(request, pipes, &limits).expect("it starts");
    let text = |index: usize| String::from_utf8_lossy(&finished.output[index].1).into_owned();
    assert_eq!(finished.status.code, Some(0), "{:?}: {}{}", finished.status, text(0), text(1));
    text(0)
}

fn failure_of(request: Request) -> (&'static str, &'static str, Errno, Option<String>) {
    let StepFailure { step, failure, path, .. } = spawn(request).expect_err("this has to fail");
    (step.name(), failure.failure.call, failure.failure.errno, path)
}

/// A directory that is gone afterwards, with the host's programs in it.
struct Root(PathBuf);

impl Root {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("linux-clone-{}", std::process::id()));
        fs::create_dir(&path).expect("a directory of our own");
        Self(path)
    }

    fn path(&self) -> CString {
        c(self.0.to_str().expect("UTF-8"))
    }

    /// The host's programs and libraries, to be mounted.
    fn programs() -> Vec<Mount> {
        ["/usr", "/bin", "/lib", "/lib64"]
            .iter()
            .filter(|path| Path::new(path).exists())
            .map(|path| bind(path, path, &["rbind", "ro"]))
            .collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is ours");
    }
}

fn mount(kind: &str, target: &str, options: &[&str]) -> Mount {
    Mount {
        kind: Some(c(kind)),
        target: c(target),
        options: options.iter().map(ToString::to_string).collect(),
        create: true,
        ..Mount::default()
    }
}

fn bind(source: &str, target: &str, options: &[&str]) -> Mount {
    Mount { source: Some(c(source)), ..mount("bind", target, options) }
}

/// What a start may leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Belongings {
    descriptors: usize,
    children: String,
    mappings: usize,
    mounts: usize,
    mask: Option<String>,
}

fn belongings() -> Belongings {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc/self/task");
    let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let [maps, mounts] =
        ["maps", "mountinfo"].map(|name| fs::read_to_string(format!("/proc/self/{name}")).expect("/proc"));
    let status = fs::read_to_string("/proc/thread-self/status").expect("/proc/thread-self/status");
    Belongings {
        children: children.collect::<Vec<_>>().concat(),
        descriptors: fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count(),
        mappings: maps.lines().filter(|line| line.contains("/dev/zero")).count(),
        mounts: mounts.lines().count(),
        mask: status.lines().find(|line| line.starts_with("SigBlk")).map(str::to_owned),
    }
}

/// A program that does nothing but to allow everything.
fn allow_all() -> Vec<Instruction> {
    vec![Instruction { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }]
}

/// With every option at once, as far as they go together.
fn everything(root: &Root) -> Request {
    let core = RESOURCES.iter().find(|(name, _)| *name == "core").expect("it is there").1;
    let mut request = in_user_namespace(container("exit 7"));
    let mut mounts = Root::programs();
    mounts.extend([
        mount("dev", "/dev", &[]),
        mount("tmpfs", "/tmp/a/b", &["size=1m", "nosuid", "private"]),
        mount("mqueue", "/dev/mqueue", &[]),
        Mount { optional: true, ..bind("/missing", "/missing", &[]) },
        Mount { kind: None, ..mount("", "/tmp/a/b", &["remount", "bind", "ro"]) },
    ]);
    request.setup = Setup {
        unshare: request.setup.unshare | CloneFlags::NEWTIME,
        time_offsets: Some(b"monotonic 1000 0\nboottime 1000 0\n".to_vec()),
        root: Some(root.path()),
        mounts,
        hostname: Some("inside".into()),
        domainname: Some("domain".into()),
        loopback: true,
        rlimits: vec![(core, ResourceLimit { soft: 0, hard: 0 })],
        capabilities: Some(1 << 10),
        no_new_privileges: true,
        seccomp: Some(allow_all()),
        uid: Some(0),
        gid: Some(0),
        cwd: Some(c("/tmp")),
        ..request.setup
    };
    Request { death_signal: Some(libc::SIGKILL), stdio: vec![None, None, None, None, Some(0)], ..request }
}

#[test]
fn a_child_allocates_nothing() {
    alone("a_child_allocates_nothing", || {
        let root = Root::new();
        // What is made once is made by this process.
        assert_eq!(end_of(&spawn(everything(&root)).expect("it starts")).code, Some(7));
        OWNER.store(std::process::id().cast_signed(), Ordering::Relaxed);
        linux_clone_syscalls::unshare(CloneFlags::NEWUTS).expect("root may do it");
        let ours = fs::File::open("/proc/thread-self/ns/uts").expect("/proc");
        let joining = || {
            let mut request = everything(&root);
            request.setup.joins = vec![(ours.as_raw_fd(), CloneFlags::NEWUTS)];
            request.setup.unshare -= CloneFlags::NEWUTS;
            (request.setup.hostname, request.setup.domainname) = (None, None);
            request
        };
        for request in [everything(&root), joining(), Request { has_init: false, ..everything(&root) }] {
            assert_eq!(end_of(&spawn(request).expect("it starts")).code, Some(7));
        }
        let mut missing = everything(&root);
        missing.program.file = c("missing");
        assert_eq!(failure_of(missing), ("exec", "execve", Errno::ENOENT, Some("missing".to_owned())));
        assert_eq!(
            failure_of(shell_script(&root.0)),
            (
                "exec",
                "execve",
                Errno::ENOENT,
                None::<String>.or(Some(format!("{}/script", root.0.display())))
            )
        );
        assert!(!CHILD_HAS_ALLOCATED.load(Ordering::Relaxed), "a child has asked for memory");
        allocate_in_a_child();
        assert!(CHILD_HAS_ALLOCATED.load(Ordering::Relaxed), "the allocator would have noticed");
        OWNER.store(0, Ordering::Relaxed);
    });
}

/// Whose interpreter is missing.
fn shell_script(directory: &Path) -> Request {
    use std::os::unix::fs::PermissionsExt;
    let script = directory.join("script");
    fs::write(&script, "#!/missing\n").expect("it is ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    program(&[script.to_str().expect("UTF-8")])
}

fn allocate_in_a_child() {
    extern "C" fn allocate(_: *mut c_void) -> c_int {
        drop(std::hint::black_box(Box::new(1_u64)));
        0
    }
    let mut stack = vec![0_u128; 4096];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let top = stack.as_mut_ptr_range().end.cast();
    // SAFETY: it runs on a stack of its own while this thread is suspended, and no other thread allocates.
    let pid = unsafe { libc::clone(allocate, top, flags, std::ptr::null_mut()) };
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).expect("it is our child");
}

#[test]
fn a_failed_start_leaves_nothing() {
    alone("a_failed_start_leaves_nothing", || {
        let root = Root::new();
        drop(spawn(container("true")).map(|spawned| end_of(&spawned)));
        let ours = fs::File::open("/proc/self/ns/net").expect("/proc");
        let change = |change: &dyn Fn(&mut Request)| {
            let mut request = everything(&root);
            change(&mut request);
            request
        };
        let with_lines = |lines: &[(u32, u32, u32)]| {
            let lines = lines.iter().map(|&(inside, outside, count)| IdMapping { inside, outside, count });
            Some(IdMappings::Lines(lines.collect()))
        };
        let not_a_directory = c("/proc/self/status");
        let failing = [
            ("join", change(&|it| it.setup.joins = vec![(ours.as_raw_fd(), CloneFlags::NEWUTS)])),
            ("join", change(&|it| it.setup.joins = vec![(0, CloneFlags::NEWPID)])),
            ("id-map", change(&|it| it.setup.id_maps.uids = with_lines(&[(0, 0, 2), (1, 1, 2)]))),
            ("time-offsets", change(&|it| it.setup.time_offsets = Some(b"wrong".to_vec()))),
            ("propagation", change(&|it| it.setup.propagation = Some(MountFlags::MS_RDONLY))),
            ("mount", change(&|it| it.setup.mounts.push(mount("missing", "/x", &[])))),
            ("mount", change(&|it| it.setup.mounts.push(bind("/missing", "/x", &[])))),
            ("pivot-root", change(&|it| it.setup.root = Some(not_a_directory.clone()))),
            ("pivot-root", change(&|it| it.setup.root = Some(c("/missing")))),
            ("hostname", change(&|it| it.setup.hostname = Some("x".repeat(65).into()))),
            ("rlimit", change(&|it| it.setup.rlimits = vec![(0, ResourceLimit { soft: 2, hard: 1 })])),
            ("stdio", change(&|it| it.stdio[1] = Some(12345))),
            ("chdir", change(&|it| it.setup.cwd = Some(c("/missing")))),
            ("credentials", change(&|it| it.setup.uid = Some(12345))),
            ("credentials", change(&|it| it.setup.gid = Some(12345))),
            ("seccomp", change(&|it| it.setup.seccomp = Some(vec![]))),
            ("exec", change(&|it| it.program.file = c("/missing"))),
            ("cgroup", change(&|it| it.cgroup = Some(0))),
        ];
        let before = belongings();
        for (step, request) in failing {
            for has_init in [true, false] {
                let request = Request { has_init, ..request.clone() };
                assert_eq!(failure_of(request).0, step);
                assert_eq!(belongings(), before, "after {step}, with init: {has_init}");
            }
        }
    });
}

#[test]
fn the_program_is_found_as_execvp_finds_it() {
    alone("the_program_is_found_as_execvp_finds_it", || {
        use std::os::unix::fs::PermissionsExt;
        let root = Root::new();
        let file = |name: &str, contents: &str, mode| {
            let path = root.0.join(name);
            fs::create_dir_all(path.parent().expect("below the root")).expect("it is ours");
            fs::write(&path, contents).expect("it is ours");
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
        };
        file("forbidden/tool", "#!/bin/sh\n", 0o644);
        file("script/tool", "echo \"$0 $1\"\n", 0o755);
        let tool = |directories: &[&str]| {
            let path: Vec<_> =
                directories.iter().map(|name| root.0.join(name).display().to_string()).collect();
            let mut request = program(&["tool", "argument"]);
            request.program.env = vec![c(format!("PATH={}", path.join(":")))];
            request
        };
        let exec = |errno| ("exec", "execve", errno, Some("tool".to_owned()));
        assert_eq!(failure_of(tool(&["missing", "forbidden/tool"])), exec(Errno::ENOTDIR));
        assert_eq!(failure_of(tool(&["missing", "script/tool", "missing"])), exec(Errno::ENOENT));
        assert_eq!(failure_of(tool(&["forbidden", "missing"])), exec(Errno::EACCES));
        // A file without an interpreter is the shell's.
        let script = root.0.join("script/tool");
        assert_eq!(output_of(tool(&["forbidden", "script"])), format!("{} argument\n", script.display()));
        let mut without_path = program(&["true"]);
        without_path.program.env = vec![];
        assert_eq!(end_of(&spawn(without_path).expect("/bin/true")).code, Some(0));
        let mut here = tool(&[]);
        here.program.env = vec![c("PATH=:/missing")];
        here.setup.cwd = Some(c(root.0.join("script").to_str().expect("UTF-8")));
        assert_eq!(output_of(here), "tool argument\n");
        assert_eq!(failure_of(program(&[&"x".repeat(256)])).2, Errno::ENAMETOOLONG);
    });
}

#[test]
fn the_program_starts_clean() {
    alone("the_program_starts_clean", || {
        // SAFETY: an effect of signals of this process, whose only purpose is this test.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGRTMAX(), libc::SIG_IGN) };
        // SAFETY: integers only; not close-on-exec.
        assert!(unsafe { libc::dup2(0, 77) } == 77);
        let text = output_of(shell("cat /proc/self/status; ls /proc/self/fd"));
        for name in ["SigBlk", "SigIgn", "SigCgt"] {
            assert!(text.contains(&format!("{name}:\t0000000000000000\n")), "{text}");
        }
        assert!(text.ends_with("\n0\n1\n2\n3\n"), "{text}");
    });
}

#[test]
fn descriptors_cross() {
    alone("descriptors_cross", || {
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        let null = fs::File::open("/dev/null").expect("/dev/null");
        // Its own place is taken by another, before it is copied.
        let writer_number = usize::try_from(writer.as_raw_fd()).expect("open");
        assert!(writer_number < 9, "it is to be copied upwards");
        let mut stdio: Vec<_> = (0..10).map(|_| Some(null.as_raw_fd())).collect();
        stdio[9] = Some(writer.as_raw_fd());
        stdio[8] = None;
        let request = Request { stdio, ..shell("echo here >&9; test ! -e /proc/self/fd/8") };
        assert_eq!(end_of(&spawn(request).expect("it starts")).code, Some(0));
        drop(writer);
        let mut text = String::new();
        fs::File::from(reader).read_to_string(&mut text).expect("a pipe");
        assert_eq!(text, "here\n");
    });
}

#[test]
fn init_reports_the_programs_end() {
    alone("init_reports_the_programs_end", || {
        let end = |script: &str| end_of(&spawn(container(script)).expect("it starts"));
        assert_eq!(end("exit 7"), ExitStatus { code: Some(7), signal: None });
        assert_eq!(end("kill -9 $$"), ExitStatus { code: None, signal: Some(libc::SIGKILL) });
        assert_eq!(end("kill -USR1 $$"), ExitStatus { code: None, signal: Some(libc::SIGUSR1) });
        // An orphan that outlives the program ends with it, one that ends before is reaped.
        assert_eq!(end("(sleep 1000 &) ; (true &); exit 3"), ExitStatus { code: Some(3), signal: None });
        let forwarded = container("trap 'exit 42' TERM; echo ready; while :; do sleep 0.01; done");
        let (spawned, mut output) = with_output(forwarded);
        output.read_exact(&mut [0; 6]).expect("it says that it is ready");
        // SAFETY: integers only; it is our child.
        unsafe { libc::kill(spawned.pid.as_raw(), libc::SIGTERM) };
        assert_eq!(end_of(&spawned), ExitStatus { code: Some(42), signal: None });
    });
}

/// The program, and what it writes.
fn with_output(request: Request) -> (Spawned, fs::File) {
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    let stdio = vec![None, Some(writer.as_raw_fd()), None];
    (spawn(Request { stdio, ..request }).expect("it starts"), fs::File::from(reader))
}

#[test]
fn init_reaps_orphans_and_holds_nothing() {
    alone("init_reaps_orphans_and_holds_nothing", init_holds_nothing);
}

fn init_holds_nothing() {
    let script = "(sleep 0.01 & ) ; exec >/dev/null; read line";
    let (input, writer) = nix::unistd::pipe().expect("a pipe");
    let (reader, output) = nix::unistd::pipe().expect("a pipe");
    let stdio = vec![Some(input.as_raw_fd()), Some(output.as_raw_fd()), None];
    let spawned = spawn(Request { stdio, ..container(script) }).expect("it starts");
    drop((input, output));
    // The program has closed its output, the orphan has ended: who holds it still would be init.
    let mut rest = Vec::new();
    fs::File::from(reader).read_to_end(&mut rest).expect("a pipe");
    // What it reports to stays open alone; it hangs here where init holds more.
    while fs::read_dir(format!("/proc/{}/fd", spawned.pid)).expect("/proc").count() != 1 {
        thread::yield_now();
    }
    let comm = fs::read_to_string(format!("/proc/{}/comm", spawned.pid)).expect("/proc");
    assert_eq!(comm, "init\n");
    drop(writer);
    assert_eq!(end_of(&spawned).code, Some(1));
}

/// A filter for this thread and its children, that answers `call` with an errno.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an instruction's fields")]
fn refuse_with(call: libc::c_long, errno: Errno) {
    let instruction = |code: u32, jf, k| Instruction { code: code as u16, jt: 0, jf, k };
    let filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    linux_clone_syscalls::set_no_new_privileges().expect("everybody may");
    linux_clone_syscalls::seccomp_filter(&filter).expect("a program of four instructions");
}

#[test]
fn without_clone3_and_close_range_it_works_as_well() {
    alone("without_clone3_and_close_range_it_works_as_well", || {
        refuse_with(libc::SYS_clone3, Errno::ENOSYS);
        refuse_with(libc::SYS_close_range, Errno::ENOSYS);
        let root = Root::new();
        let request = everything(&root);
        assert_eq!(end_of(&spawn(request).expect("it starts")).code, Some(7));
        // SAFETY: integers only; not close-on-exec.
        assert!(unsafe { libc::dup2(0, 77) } == 77);
        assert_eq!(output_of(shell("ls /proc/self/fd")), "0\n1\n2\n3\n");
        init_holds_nothing();
        if let Some(cgroup) = Cgroup::new() {
            let directory = fs::File::open(&cgroup.0).expect("it is ours");
            let request = Request { cgroup: Some(directory.as_raw_fd()), ..shell("cat /proc/self/cgroup") };
            assert!(output_of(request).contains("/linux-clone-"), "it is in the cgroup");
        }
    });
}

/// A directory in the unified hierarchy, where that is to be had.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Self> {
        let mounted = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let root = mounted.iter().map(Path::new).find(|path| path.join("cgroup.procs").exists())?;
        let path = root.join(format!("linux-clone-{}", std::process::id()));
        fs::create_dir(&path).ok().map(|()| Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).expect("nobody is in it");
    }
}

#[test]
fn memory_stays_dumpable() {
    alone("memory_stays_dumpable", || {
        // SAFETY: integers only.
        let dumpable = || unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
        assert_eq!(dumpable(), 1);
        let mut request = shell("true");
        request.setup.capabilities = Some(0);
        // The kernel forbids it at a change of ids, which only root can make.
        request.setup.uid = Some(1);
        drop(spawn(request.clone()).map(|spawned| end_of(&spawned)));
        assert_eq!(dumpable(), 1);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let request = request.clone();
                thread::spawn(move || {
                    for _ in 0..20 {
                        drop(spawn(request.clone()).map(|spawned| end_of(&spawned)));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("it did not panic");
        }
        assert_eq!(dumpable(), 1);
    });
}

#[test]
fn it_ends_with_this_process_and_not_with_the_thread() {
    const STARTS: &str = "LINUX_CLONE_STARTS";
    alone("it_ends_with_this_process_and_not_with_the_thread", || {
        let sleeping = || Request { death_signal: Some(libc::SIGKILL), ..program(&["sleep", "1000"]) };
        if std::env::var_os(STARTS).is_some() {
            let spawned =
                thread::spawn(move || spawn(sleeping()).expect("it starts")).join().expect("it starts");
            println!("pid {}", spawned.pid);
            std::mem::forget(spawned);
            // It is killed here.
            loop {
                thread::park();
            }
        }
        let spawned = thread::spawn(move || spawn(sleeping()).expect("it starts")).join().expect("it starts");
        assert_eq!(wait(spawned.pidfd.as_fd(), false), Ok(None), "the thread's end is not the process's");
        // SAFETY: integers only; it is our child.
        unsafe { libc::kill(spawned.pid.as_raw(), libc::SIGKILL) };
        end_of(&spawned);

        let mut child = Command::new(std::env::current_exe().expect("the test's own path"))
            .args(["it_ends_with_this_process_and_not_with_the_thread", "--exact", "--nocapture"])
            .env(STARTS, "1")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("the test can start itself");
        let output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        let pid: i32 = std::io::BufRead::lines(output)
            .map_while(Result::ok)
            .find_map(|line| line.split("pid ").nth(1)?.parse().ok())
            .expect("it says which");
        // SAFETY: integers only.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let pidfd = i32::try_from(pidfd).expect("it is there");
        // SAFETY: a new descriptor.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        // It hangs where the program lives on.
        wait(pidfd.as_fd(), true).expect("a pidfd");
    });
}

#[test]
fn namespaces_are_joined() {
    alone("namespaces_are_joined", || {
        let inner = in_user_namespace(container("echo ready; read line"));
        let (input, writer) = nix::unistd::pipe().expect("a pipe");
        let (reader, output) = nix::unistd::pipe().expect("a pipe");
        let stdio = vec![Some(input.as_raw_fd()), Some(output.as_raw_fd()), None];
        let spawned = spawn(Request { stdio, ..inner }).expect("it starts");
        fs::File::from(reader).read_exact(&mut [0; 6]).expect("it says that it is ready");
        let names = [
            ("mnt", CloneFlags::NEWNS),
            ("pid", CloneFlags::NEWPID),
            ("net", CloneFlags::NEWNET),
            ("user", CloneFlags::NEWUSER),
            ("uts", CloneFlags::NEWUTS),
        ];
        let path = |name: &str| format!("/proc/{}/ns/{name}", spawned.pid);
        let files = names.map(|(name, _)| fs::File::open(path(name)).expect("it is there"));
        let joins: Vec<_> =
            names.iter().zip(&files).map(|((_, kind), file)| (file.as_raw_fd(), *kind)).collect();
        let there: Vec<_> = names
            .iter()
            .map(|(name, _)| fs::read_link(path(name)).expect("it is there").display().to_string())
            .collect();
        let mut request = shell("for i in mnt pid net user uts; do readlink /proc/self/ns/$i; done; id -u");
        request.setup.joins = joins.clone();
        assert_eq!(output_of(request).lines().take(5).collect::<Vec<_>>(), there);
        let mut second = shell("kill -9 $$");
        second.setup.joins = joins.clone();
        let second = spawn(second).expect("it starts");
        assert_eq!(end_of(&second).signal, Some(libc::SIGKILL), "it is a child of ours");
        // New ones beside those that are joined: the kernel makes no pid namespace in one that was joined.
        let mut nested = container("readlink /proc/self/ns/net; echo $$");
        let others = CloneFlags::NEWPID | CloneFlags::NEWNS;
        nested.setup.joins = joins.into_iter().filter(|(_, kind)| !others.contains(*kind)).collect();
        nested.setup.unshare = others;
        assert_eq!(output_of(nested), format!("{}\n2\n", there[2]));
        drop(writer);
        end_of(&spawned);
    });
}

#[test]
fn nothing_leads_out_of_the_root() {
    alone("nothing_leads_out_of_the_root", || {
        let root = Root::new();
        let outside = std::env::temp_dir().join(format!("linux-clone-outside-{}", std::process::id()));
        fs::create_dir(&outside).expect("it is ours");
        std::os::unix::fs::symlink(&outside, root.0.join("absolute")).expect("it is ours");
        std::os::unix::fs::symlink("../../../../../..", root.0.join("relative")).expect("it is ours");
        let mut request = in_user_namespace(container("true"));
        request.setup.root = Some(root.path());
        request.setup.mounts = Root::programs();
        let targets = [
            format!("/absolute/{}", "a"),
            format!("/relative{}/b", outside.display()),
            format!("/../../..{}/c", outside.display()),
        ];
        for target in &targets {
            let made = Request { setup: request.setup.clone(), ..request.clone() };
            let mut made = made;
            made.setup.mounts.push(mount("tmpfs", target, &[]));
            // The link's target is missing inside, where it is looked for; or it is made there.
            let _ = spawn(made).map(|spawned| end_of(&spawned));
        }
        assert_eq!(fs::read_dir(&outside).expect("it is ours").count(), 0, "something was made outside");
        let inside = root.0.join(outside.strip_prefix("/").expect("absolute"));
        assert!(inside.join("c").is_dir(), "it was made inside");
        fs::remove_dir(&outside).expect("it is ours");
    });
}

#[test]
fn a_program_is_waited_for_with_its_pipes() {
    alone("a_program_is_waited_for_with_its_pipes", || {
        let run = |script: &str, input: &[u8], limits: Limits| {
            let pipes = vec![
                Pipe { fd: 0, input: Some(input.to_vec()) },
                Pipe { fd: 1, input: None },
                Pipe { fd: 2, input: None },
            ];
            spawn_sync(shell(script), pipes, &limits).expect("it starts")
        };
        let free = Limits { timeout: None, output: None, kill_signal: libc::SIGTERM };
        let errno = |failure: Option<linux_clone_syscalls::Failure>| failure.map(|failure| failure.errno);
        let large: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let finished = run("cat; echo end >&2; exit 5", &large, free);
        assert!(finished.output[0].1 == large && finished.output[1].1 == b"end\n");
        assert_eq!((finished.status.code, errno(finished.failure)), (Some(5), None));
        let finished = run("exit 0", &large, free);
        assert_eq!(errno(finished.failure), Some(Errno::EPIPE));
        let short = Limits { timeout: Some(std::time::Duration::from_millis(50)), ..free };
        let finished = run("exec sleep 1000", b"", short);
        assert_eq!(
            (finished.status.signal, errno(finished.failure)),
            (Some(libc::SIGTERM), Some(Errno::ETIMEDOUT))
        );
        let finished = run("exec cat /dev/zero", b"", Limits { output: Some(100_000), ..free });
        // Its pipe is closed as well.
        assert!([libc::SIGTERM, libc::SIGPIPE].map(Some).contains(&finished.status.signal));
        assert_eq!(errno(finished.failure), Some(Errno::ENOBUFS));
    });
}

/// Traces a process until it is told to let go of it. It is told through `go`, and tells through `ready`, by a byte.
fn trace_until_told(pid: libc::pid_t, ready: c_int, go: c_int) -> libc::pid_t {
    // SAFETY: the child makes system calls alone.
    let tracer = unsafe { libc::fork() };
    if tracer != 0 {
        return tracer;
    }
    let (none, mut byte) = (std::ptr::null_mut::<c_void>(), 0_u8);
    // SAFETY: integers and null.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) };
    if seized == 0 {
        // SAFETY: one byte that is ours.
        unsafe { libc::write(ready, (&raw const byte).cast(), 1) };
        // SAFETY: as above.
        unsafe { libc::read(go, (&raw mut byte).cast(), 1) };
        // SAFETY: the status is of no interest.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
    }
    // SAFETY: this process ends.
    unsafe { libc::_exit(c_int::from(seized != 0)) }
}

#[test]
fn who_is_traced_has_ended_when_the_tracer_lets_go() {
    alone("who_is_traced_has_ended_when_the_tracer_lets_go", || {
        let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
        let (input, end_it) = pipe();
        let mut request = shell("read line; exit 7");
        request.stdio[0] = Some(input.as_raw_fd());
        let spawned = spawn(request).expect("it starts");
        let [(ready, to_us), (go, to_tracer)] = [pipe(), pipe()];
        let tracer = trace_until_told(spawned.pid.as_raw(), to_us.as_raw_fd(), go.as_raw_fd());
        assert_eq!(nix::unistd::read(&ready, &mut [0]), Ok(1), "it is traced");
        nix::unistd::write(&end_it, b"\n").expect("it reads");
        let mut events = [nix::poll::PollFd::new(spawned.pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut events, nix::poll::PollTimeout::NONE).expect("it ends");
        assert_eq!(wait(spawned.pidfd.as_fd(), false), Ok(None), "it is the tracer's still");
        let waiting = thread::scope(|scope| {
            let waiting = scope.spawn(|| end_of(&spawned));
            nix::unistd::write(&to_tracer, b" ").expect("it reads");
            waiting.join().expect("it has waited")
        });
        assert_eq!((waiting.code, waiting.signal), (Some(7), None));
        // SAFETY: our child.
        unsafe { libc::waitpid(tracer, std::ptr::null_mut(), 0) };
    });
}
