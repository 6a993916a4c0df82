//! The program that a child becomes.
//!
//! # Safety
//!
//! execve(2) on strings and arrays that outlive it.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

use linux_clone_syscalls::{Errno, Failure};

/// What is to be executed.
#[derive(Clone, Debug)]
pub struct Program {
    /// Without a slash it is looked up in the `PATH` of `env`.
    pub file: CString,
    /// The first is the program's own name.
    pub args: Vec<CString>,
    /// `NAME=value`.
    pub env: Vec<CString>,
}

/// Where there is no `PATH`: confstr(3)'s `_CS_PATH`.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";
const SHELL: &CStr = c"/bin/sh";
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4096;

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// The environment of this process: each variable is copied once.
#[must_use]
pub fn own_environment() -> Vec<CString> {
    // SAFETY: the libc's own; a program that changes it in another thread meanwhile could not use getenv(3) either.
    let mut place = unsafe { environ };
    let mut variables = Vec::new();
    while !place.is_null() {
        // SAFETY: within the array, which ends with null.
        let variable = unsafe { *place };
        if variable.is_null() {
            break;
        }
        // SAFETY: a C string.
        let variable = unsafe { CStr::from_ptr(variable) };
        if variable.to_bytes().contains(&b'=') {
            variables.push(variable.to_owned());
        }
        place = place.wrapping_add(1);
    }
    variables
}

/// A program with everything that exec takes.
pub struct Executable<'a> {
    candidates: Vec<CString>,
    argv: Vec<*const c_char>,
    /// For a script without an interpreter: the shell, the script, its arguments.
    script: Vec<Cell<*const c_char>>,
    envp: Vec<*const c_char>,
    program: &'a Program,
}

impl<'a> Executable<'a> {
    /// ENAMETOOLONG: no file has such a name.
    pub fn of(program: &'a Program) -> Result<Self, Failure> {
        let candidates = program.candidates()?;
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
        };
        let argv = pointers(&program.args);
        let own = [SHELL.as_ptr(), ptr::null()];
        // Its last is null, also where there is none but that.
        let rest = argv.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(&[ptr::null()]);
        let script = own.iter().chain(rest).map(|pointer| Cell::new(*pointer)).collect();
        Ok(Self { candidates, argv, script, envp: pointers(&program.env), program })
    }

    /// Becomes the program, or says why not: glibc's execvp(3), which libuv uses, in the choice of the errno too.
    pub fn execute(&self) -> Failure {
        let mut errno = Errno::ENOENT;
        let mut is_forbidden = false;
        for candidate in &self.candidates {
            // SAFETY: arrays of C strings that end with null.
            unsafe { libc::execve(candidate.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
            errno = Errno::last();
            if errno == Errno::ENOEXEC {
                errno = self.execute_script(candidate);
            }
            match errno {
                Errno::EACCES => is_forbidden = true,
                Errno::ENOENT | Errno::ESTALE | Errno::ENOTDIR | Errno::ENODEV | Errno::ETIMEDOUT => {}
                _ => return Failure::new("execve", errno),
            }
        }
        Failure::new("execve", if is_forbidden { Errno::EACCES } else { errno })
    }

    fn execute_script(&self, file: &CStr) -> Errno {
        if let Some(place) = self.script.get(1) {
            place.set(file.as_ptr());
        }
        // SAFETY: as above; a cell is as what it holds.
        unsafe { libc::execve(SHELL.as_ptr(), self.script.as_ptr().cast(), self.envp.as_ptr()) };
        Errno::last()
    }

    pub fn file(&self) -> &'a CStr {
        &self.program.file
    }
}

impl Program {
    fn candidates(&self) -> Result<Vec<CString>, Failure> {
        let file = self.file.to_bytes();
        if file.is_empty() || file.contains(&b'/') {
            return Ok(vec![self.file.clone()]);
        }
        if file.len() > LONGEST_NAME {
            return Err(Failure::new("execve", Errno::ENAMETOOLONG));
        }
        let path = self.env.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
        let directories = path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':');
        let candidates = directories.filter_map(|directory| {
            // An empty one is the working directory.
            let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
            let candidate = [directory, separator, file].concat();
            (candidate.len() < LONGEST_PATH).then(|| CString::new(candidate).ok()).flatten()
        });
        Ok(candidates.collect())
    }
}
