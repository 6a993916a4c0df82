import { invalidArgType } from './argument-errors.js'
import type { Child } from './child.js'
import type { CloneOptions } from './clone-options.js'
import { rest } from './on-demand.js'

/**
 * clone(2): runs `fn` in a new process that is a copy of this one, on a stack of its own.
 *
 * In the child JavaScript goes on as it does here: closures, garbage collection, compiled code at full speed, and, where
 * `fn` is async, timers, promises, fs, net, dns, workers and children of its own. What belongs to the parent stays the
 * parent's: its timers, servers, sockets and requests under way neither fire nor complete in the child, where their
 * descriptors are closed; `process` starts there without listeners, and signals have their default effect until `fn` listens
 * for them. Descriptors that `fs.open` has opened are inherited, as fork(2) has it.
 *
 * It may be called from the main script, a timer, a promise's continuation, any callback on the main thread. What stands
 * behind the call, in the callers too, does not run in the child.
 *
 * What `fn` returns, or resolves to, is the exit status: an integer, its low byte; undefined, 0 (or `process.exitCode`);
 * anything else is a TypeError `ERR_INVALID_RETURN_VALUE` in the child. When it has settled the child ends, whatever it
 * left open. An error that it throws, or rejects with, is printed as Node prints it, and the status is 1. A promise that
 * nothing can settle any more is status 13.
 *
 * CLONE_VM, CLONE_THREAD, CLONE_SIGHAND, CLONE_VFORK and CLONE_SETTLS cannot carry JavaScript in the child. With
 * CLONE_FILES the descriptor table is the parent's own: `fn` runs synchronously, and may not return a promise.
 *
 * Linux 5.4 or later, on x86-64 and aarch64.
 *
 * @throws {SystemCallError} with `step`: `EPERM`; `EAGAIN`: too many processes; `ENOSPC`, `EUSERS`: too many namespaces;
 * `EEXIST`: a pid of `setTid` is taken; `ENOENT`, `EBADF`: the cgroup; `EINVAL`: flags that contradict; `ENOMEM`; `EBUSY`: every
 * thread of libuv's pool is in a call that does not end, or JavaScript runs in vm with a timeout; `ETIMEDOUT`: a thread cannot be stopped; `ENOTSUP`: in a Worker, in a listener of
 * `exit`, in a clone with CLONE_FILES, where Node was started with `--abort-on-uncaught-exception`, or with
 * `UV_USE_IO_URING=1` and a libuv before 1.49 (Node 20), or this Node is not one that is known.
 */
// biome-ignore lint/suspicious/noConfusingVoidType: the contract has it, and a function without return is meant.
export function clone(fn: () => number | void | Promise<number | void>, options?: CloneOptions): Child {
  if (typeof fn !== 'function') throw invalidArgType('fn', 'of type function', fn, clone)
  const { checkedOptions, NOTHING_ASKED, startClone } = rest()
  return startClone(fn, options === undefined ? NOTHING_ASKED : checkedOptions(options, clone), clone)
}
