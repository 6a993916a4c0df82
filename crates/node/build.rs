//! Tells the linker that Node provides Node-API's symbols.

fn main() {
    napi_build::setup();
}
