//! The derive macro of perf-batch; use it through that crate.

#![forbid(unsafe_code)]

mod attributes;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Maps a struct with named fields to a table: implements `BulkRow`, and `BulkValues` for every
/// database that can encode the fields.
///
/// On the struct:
///
/// - `#[bulk(table = "..")]`: the table, required; `"schema.table"` names the schema too.
/// - `#[bulk(crate = "..")]`: the path of perf-batch, where it is renamed or re-exported. Defaults
///   to `::perf_batch`.
///
/// On a field:
///
/// - `#[bulk(key)]`: the column is part of the key, by which `OnConflict` finds the row that is
///   there already. The field's type must be `Ord`, or an `Option` of such a type; a row whose
///   key holds a `None` conflicts with nothing, as in SQL. For another type that is encoded as
///   NULL, write `BulkValues` by hand.
/// - `#[bulk(rename = "..")]`: the column's name. Defaults to the field's.
/// - `#[bulk(skip)]`: the field is no column; the database fills in its default.
/// - `#[bulk(pg_type = "..")]`: on Postgres, the value is cast to this type.
#[proc_macro_derive(BulkRow, attributes(bulk))]
pub fn bulk_row(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
