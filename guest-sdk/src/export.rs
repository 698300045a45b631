//! From a function to the component's export: the traits that a handler's function fulfils, and the macro.

use crate::{Bytes, Delivery, Event, EventData, Failure, Result};

/// A function that can handle events: `fn(Event<T>)` or `fn(Event<T>, Delivery)`, answering nothing or a [`Result`].
#[diagnostic::on_unimplemented(
    message = "this function can't be a handler",
    label = "not a handler",
    note = "a handler is `fn(Event<T>)` or `fn(Event<T>, Delivery)` where `T` can be deserialized, answering nothing or `weir_sdk::Result`"
)]
pub trait Handler<Arguments> {
    /// Reads the event's data and calls the function.
    ///
    /// # Errors
    /// What the function answers, or a reject when the data does not fit.
    fn call(self, event: Event<Bytes>, delivery: Delivery) -> Result;
}

impl<F, T, R> Handler<(T,)> for F
where
    F: FnOnce(Event<T>) -> R,
    T: EventData,
    R: IntoResult,
{
    fn call(self, event: Event<Bytes>, _: Delivery) -> Result {
        self(event.decode()?).into_result()
    }
}

impl<F, T, R> Handler<(T, Delivery)> for F
where
    F: FnOnce(Event<T>, Delivery) -> R,
    T: EventData,
    R: IntoResult,
{
    fn call(self, event: Event<Bytes>, delivery: Delivery) -> Result {
        self(event.decode()?, delivery).into_result()
    }
}

/// What a handler's function may answer.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no answer of a handler",
    note = "answer nothing, or `weir_sdk::Result`, or a `Result<(), E>` whose error can become a `weir_sdk::Failure`"
)]
pub trait IntoResult {
    /// The answer as Weir takes it.
    ///
    /// # Errors
    /// Why the event is not done.
    fn into_result(self) -> Result;
}

impl IntoResult for () {
    fn into_result(self) -> Result {
        Ok(())
    }
}

impl<E: Into<Failure>> IntoResult for std::result::Result<(), E> {
    fn into_result(self) -> Result {
        self.map_err(Into::into)
    }
}

/// Makes a function the handler of this component.
///
/// ```
/// use weir_sdk::prelude::*;
///
/// weir_sdk::handler!(notify);
///
/// fn notify(event: Event, delivery: Delivery) -> Result {
///     log::info!("{} for the {}th time", event.id, delivery.attempt);
///     Ok(())
/// }
/// ```
///
/// With `self_test`, a second function is called once before a new version of the component (or a file that its configuration names)
/// takes over. Its error stops that: the old version stays. Mail and publishing are refused while it runs.
///
/// ```
/// use weir_sdk::prelude::*;
///
/// weir_sdk::handler!(notify, self_test = check);
///
/// fn notify(_: Event) {}
///
/// fn check() -> Result {
///     config::require("rules")?;
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! handler {
    ($handler:path $(, self_test = $self_test:path)? $(,)?) => {
        const _: () = {
            #[cfg(target_family = "wasm")]
            mod __weir {
                pub struct Component;
                $crate::__private::handler::export!(Component with_types_in $crate::__private::handler);
            }

            #[cfg(target_family = "wasm")]
            impl $crate::__private::handler::Guest for __weir::Component {
                fn handle(
                    event: $crate::__private::handler::Event,
                    delivery: $crate::__private::handler::Delivery,
                ) -> ::core::result::Result<(), $crate::__private::handler::Failure> {
                    $crate::__private::handler::run($handler, event, delivery)
                }
            }

            // In tests the function is checked all the same, and counts as used.
            #[cfg(not(target_family = "wasm"))]
            const _: fn() = || $crate::__private::check($handler);

            $($crate::__self_test!($self_test);)?
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __self_test {
    ($self_test:path) => {
        #[cfg(target_family = "wasm")]
        mod __weir_self_test {
            pub struct Component;
            $crate::__private::self_test::export!(Component with_types_in $crate::__private::self_test);
        }

        #[cfg(target_family = "wasm")]
        impl $crate::__private::self_test::Guest for __weir_self_test::Component {
            fn run() -> ::core::result::Result<(), ::std::string::String> {
                $crate::__private::self_test::run($self_test)
            }
        }

        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || $crate::__private::check_self_test($self_test);
    };
}

/// Compiles only for what can be a handler.
pub fn check<A>(_: impl Handler<A>) {}

/// Compiles only for what can be a self-test.
pub fn check_self_test<R: IntoResult>(_: fn() -> R) {}
