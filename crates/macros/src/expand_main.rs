//! `#[main]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Visibility};

use crate::{
    adapter::Adapter,
    args::{Args, EntryPoint, Kind},
    function::{Function, beside},
    values::EventLoop,
};

const FORM: &str = "async fn main() -> PyResult<()> { ... }";

pub(crate) fn expand(adapter: Adapter, args: TokenStream, item: TokenStream) -> TokenStream {
    let function = match Function::parse(item.clone(), FORM) {
        Ok(function) => function,
        Err(error) => return beside(item, &error),
    };
    let entry_point = EntryPoint { adapter, kind: Kind::Main };
    let checked = function.require_async(FORM).and_then(|()| function.check(FORM));
    match checked.and_then(|()| entry_point.parse_args(args)) {
        Ok(args) => main(function, &args),
        // A method stays where it is.
        Err(error) if function.sig.receiver().is_some() => beside(function, &error),
        Err(error) => beside(placeholder(&function), &error),
    }
}

fn main(mut function: Function, args: &Args) -> TokenStream {
    let crate_path = &args.crate_path;
    let runtime = args.runtime("shape_default");
    let kind = match args.event_loop {
        EventLoop::Asyncio => quote!(Policy),
        EventLoop::Uvloop => quote!(Uvloop),
    };
    // The attributes stay with the function that has the body: other attribute macros belong there. What tells others
    // of the function goes with its name, and so do levels of lints, which hold for what is inside as well.
    const TOLD: [&str; 7] = ["doc", "deprecated", "allow", "expect", "warn", "deny", "forbid"];
    let is_told = |attr: &Attribute| TOLD.iter().any(|told| attr.path().is_ident(told));
    let (told, attrs) = std::mem::take(&mut function.attrs).into_iter().partition::<Vec<_>, _>(is_told);
    function.attrs = attrs;
    let vis = std::mem::replace(&mut function.vis, Visibility::Inherited);
    let name = &function.sig.ident;
    let call = function.at_output(quote! {
        #crate_path::private::main(|| #runtime, #crate_path::private::LoopKind::#kind, #name)
    });
    quote! {
        #(#told)*
        #vis fn #name() -> ::std::process::ExitCode {
            #function
            #call
        }
    }
}

/// Keeps the function and its name, without the errors that `async fn main` would add of its own.
fn placeholder(function: &Function) -> TokenStream {
    if function.sig.asyncness.is_none() {
        return quote!(#function);
    }
    let vis = &function.vis;
    let name = &function.sig.ident;
    quote! {
        #vis fn #name() {
            #[allow(dead_code)]
            #function
        }
    }
}
