//! Calls from the event loop into JavaScript.
//!
//! # Safety
//!
//! Node-API's functions, on the environment's own thread; references live as long as what calls them.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr;

use linux_clone_process::duplicate::{cancel_termination, end_silence, is_ending};
use linux_clone_process::event_loop;
use napi::bindgen_prelude::{FromNapiValue, Function, JsValuesTupleIntoVec, Unknown};
use napi::{Env, JsValue, Result, Status, check_status, sys};

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
    result.map_err(|failure| napi::Error::new(Status::GenericFailure, failure.to_string()))
}

/// Has the loop take the tasks that V8 has left for this thread.
pub fn deliver_tasks(env: &Env) -> Result<()> {
    // SAFETY: the loop is this thread's.
    let result = unsafe { event_loop::deliver_tasks(event_loop(env)?) };
    result.map_err(|failure| napi::Error::new(Status::GenericFailure, failure.to_string()))
}

/// In a clone: the JavaScript on the stack ends, and the function is called when the loop has turned once without any.
pub fn start_over<A: JsValuesTupleIntoVec, R: FromNapiValue>(
    env: &Env,
    function: &Function<'_, A, R>,
) -> Result<()> {
    fn first() {
        // V8 was there when JavaScript was asked to end.
        let _ = cancel_termination();
    }
    unsafe extern "C" fn on_turn(callback: *mut c_void) {
        // As above.
        let _ = end_silence();
        // SAFETY: boxed below, and called once.
        unsafe { Box::from_raw(callback.cast::<Callback>()) }.call(None);
    }
    let callback = Box::into_raw(Box::new(Callback::new(env, function)?)).cast();
    // SAFETY: the loop is this thread's, and the callback is called with its own data.
    let result = unsafe { event_loop::call_after_turn(event_loop(env)?, first, on_turn, callback) };
    result.map_err(|failure| napi::Error::new(Status::GenericFailure, failure.to_string()))
}

/// An error that nobody has caught.
pub fn throw_uncaught(env: &Env, error: &Unknown<'_>) {
    // SAFETY: a live value.
    unsafe { sys::napi_fatal_exception(env.raw(), error.raw()) };
}
