//! `wasi:config/store`: the handler's own `[handler.*.config]`, under the three names in which toolchains know it.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::sandbox::imports::CONFIG_VERSIONS;
use crate::sandbox::state::State;

/// Never answered: the values are in memory.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

pub(crate) fn add(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for version in CONFIG_VERSIONS {
        let mut instance = linker.instance(&format!("wasi:config/store@{version}"))?;
        instance.func_wrap("get", |store: StoreContextMut<'_, State>, (key,): (String,)| {
            let config = &store.data().setup.config;
            let value = config.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
            Ok((Ok::<_, Error>(value),))
        })?;
        instance.func_wrap("get-all", |store: StoreContextMut<'_, State>, (): ()| {
            Ok((Ok::<_, Error>(store.data().setup.config.to_vec()),))
        })?;
    }
    Ok(())
}
