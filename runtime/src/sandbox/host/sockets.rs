//! `wasi:sockets`, where it begins: making a socket and looking up a name. Runtimes import it by themselves, so it is linked, and nothing
//! can grant it: each of these calls answers `access-denied`, and the first of each in an event is a line in its log.
//!
//! wasmtime-wasi would deny them too, but without a word. What needs a socket first is its own: nobody here ever has one, and no
//! descriptor of this process is spent on a guest.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::ResolveAddressStream;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, Network};
use wasmtime_wasi::p2::{TcpSocket, UdpSocket};

use crate::sandbox::state::State;

/// The version under which wasmtime-wasi links them; the linker's semver rule does the rest.
const VERSION: &str = "0.2.12";

type Denied<T> = (Result<Resource<T>, ErrorCode>,);

/// Puts these functions in the place of those that are linked.
pub(crate) fn add(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut instance = linker.instance(&format!("wasi:sockets/tcp-create-socket@{VERSION}"))?;
    instance.func_wrap("create-tcp-socket", |store: StoreContextMut<'_, State>, (_,): (IpAddressFamily,)| {
        Ok(denied::<TcpSocket>(store, "wasi:sockets/tcp-create-socket"))
    })?;
    let mut instance = linker.instance(&format!("wasi:sockets/udp-create-socket@{VERSION}"))?;
    instance.func_wrap("create-udp-socket", |store: StoreContextMut<'_, State>, (_,): (IpAddressFamily,)| {
        Ok(denied::<UdpSocket>(store, "wasi:sockets/udp-create-socket"))
    })?;
    let mut instance = linker.instance(&format!("wasi:sockets/ip-name-lookup@{VERSION}"))?;
    instance.func_wrap("resolve-addresses", |store: StoreContextMut<'_, State>, (_, _): (Resource<Network>, String)| {
        Ok(denied::<ResolveAddressStream>(store, "wasi:sockets/ip-name-lookup"))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

fn denied<T: 'static>(mut store: StoreContextMut<'_, State>, import: &'static str) -> Denied<T> {
    let state = store.data_mut();
    if !state.denied.contains(&import) {
        state.denied.push(import);
        state.log.note(&format!("weir: denied: {import} (no grant opens sockets; HTTP and mail have grants of their own)"));
    }
    (Err(ErrorCode::AccessDenied),)
}
