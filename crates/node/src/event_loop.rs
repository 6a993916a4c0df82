//! Calls from the event loop into JavaScript.
//!
//! # Safety
//!
//! Node-API's functions, on the environment's own thread; references live as long as what calls them.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr;

use linux_clone_process::duplicate::{cancel_termination, end_silence, is_ending};
use linux_clone_process::event_loop;
use napi::bindgen_prelude::{FromNapiValue, Function, JsValuesTupleIntoVec, Unknown};
use napi::{Env, Error, JsValue, Result, Status, check_status, sys};

/// A function of JavaScript's that the loop calls.
pub struct Callback {
    env: sys::napi_env,
    function: sys::napi_ref,
}

impl Callback {
    pub fn new<A: JsValuesTupleIntoVec, R: FromNapiValue>(
        env: &Env,
        function: &Function<'_, A, R>,
    ) -> Result<Self> {
        let mut reference = ptr::null_mut();
        // SAFETY: the value is a live function.
        let status = unsafe { sys::napi_create_reference(env.raw(), function.raw(), 1, &raw mut reference) };
        check_status!(status).map(|()| Self { env: env.raw(), function: reference })
    }

    /// As Node calls what has been waiting for an event: ticks and microtasks follow, and what it throws is uncaught.
    pub fn call(&self, argument: Option<u32>) {
        let env = self.env;
        let mut scope = ptr::null_mut();
        // SAFETY: the environment's own thread, outside of JavaScript.
        unsafe { sys::napi_open_handle_scope(env, &raw mut scope) };
        let (mut function, mut receiver, mut result) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: the reference is alive.
        unsafe { sys::napi_get_reference_value(env, self.function, &raw mut function) };
        // SAFETY: within the scope.
        unsafe { sys::napi_get_global(env, &raw mut receiver) };
        let (context, mut value) = (ptr::null_mut(), ptr::null_mut());
        if let Some(number) = argument {
            // SAFETY: within the scope.
            unsafe { sys::napi_create_uint32(env, number, &raw mut value) };
        }
        let (count, values) = (usize::from(argument.is_some()), &raw const value);
        // SAFETY: live values.
        let status = unsafe {
            sys::napi_make_callback(env, context, receiver, function, count, values, &raw mut result)
        };
        if status == sys::Status::napi_pending_exception {
            let mut error = ptr::null_mut();
            // SAFETY: there is one.
            unsafe { sys::napi_get_and_clear_last_exception(env, &raw mut error) };
            // The end of execution looks like an exception too.
            if !is_ending() {
                // SAFETY: what was thrown.
                unsafe { sys::napi_fatal_exception(env, error) };
            }
        }
        // SAFETY: opened above.
        unsafe { sys::napi_close_handle_scope(env, scope) };
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        // SAFETY: made in `new`.
        unsafe { sys::napi_delete_reference(self.env, self.function) };
    }
}

/// The loop of the calling thread.
pub fn event_loop(env: &Env) -> Result<*mut c_void> {
    let mut event_loop = ptr::null_mut();
    // SAFETY: a live environment.
    let status = unsafe { sys::napi_get_uv_event_loop(env.raw(), &raw mut event_loop) };
    check_status!(status).map(|()| event_loop.cast())
}

/// Whether anything holds the loop.
pub fn is_alive(env: &Env) -> Result<bool> {
    // SAFETY: the loop is this thread's.
    let result = unsafe { event_loop::is_alive(event_loop(env)?) };
    result.map_err(|failure| Error::new(Status::GenericFailure, failure.to_string()))
}

/// Has the loop take the tasks that V8 has left for this thread.
pub fn deliver_tasks(env: &Env) -> Result<()> {
    // SAFETY: the loop is this thread's.
    let result = unsafe { event_loop::deliver_tasks(event_loop(env)?) };
    result.map_err(|failure| Error::new(Status::GenericFailure, failure.to_string()))
}

thread_local! {
    /// For good: Node takes references back before threads end.
    static TURNED: RefCell<Vec<&'static Turned>> = const { RefCell::new(Vec::new()) };
}

/// What is called when a loop has turned.
struct Turned {
    first: fn(),
    callback: Callback,
}

/// By the number that it returns [`start_over`] calls the two. A clone that made a reference of its own would copy pages for it.
pub fn when_over<A: JsValuesTupleIntoVec, R: FromNapiValue>(
    env: Env,
    first: fn(),
    function: &Function<'_, A, R>,
) -> Result<u32> {
    let turned = Box::leak(Box::new(Turned { first, callback: Callback::new(&env, function)? }));
    TURNED.with_borrow_mut(|known| {
        known.push(turned);
        u32::try_from(known.len() - 1).map_err(|error| Error::new(Status::GenericFailure, error.to_string()))
    })
}

/// In a clone: the JavaScript on the stack ends, and when the loop has turned once without any, that is called which has this
/// number.
pub fn start_over(env: &Env, number: u32) -> Result<()> {
    fn first() {
        // V8 was there when JavaScript was asked to end.
        let _ = cancel_termination();
    }
    unsafe extern "C" fn on_turn(turned: *mut c_void) {
        // As above.
        let _ = end_silence();
        // SAFETY: it is there for good.
        let Turned { first, callback } = unsafe { &*turned.cast::<Turned>() };
        first();
        callback.call(None);
    }
    let Some(turned) = TURNED.with_borrow(|known| known.get(number as usize).copied()) else {
        return Err(Error::new(Status::InvalidArg, "an unknown number"));
    };
    let data = ptr::from_ref(turned).cast_mut().cast();
    // SAFETY: the loop is this thread's, and the callback is called with its own data.
    let result = unsafe { event_loop::call_after_turn(event_loop(env)?, first, on_turn, data) };
    result.map_err(|failure| Error::new(Status::GenericFailure, failure.to_string()))
}

/// An error that nobody has caught.
pub fn throw_uncaught(env: &Env, error: &Unknown<'_>) {
    // SAFETY: a live value.
    unsafe { sys::napi_fatal_exception(env.raw(), error.raw()) };
}
