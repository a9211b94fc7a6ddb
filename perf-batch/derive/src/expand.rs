//! The implementations.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, GenericParam, Result, Type, parse_quote};

use crate::attributes::{ColumnField, columns, table};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let table = table(input)?;
    let columns = columns(input)?;
    let ident = &input.ident;

    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let declared = columns.iter().map(declare);
    let row = quote! {
        #[automatically_derived]
        impl #impl_generics ::perf_batch::BulkRow for #ident #type_generics #where_clause {
            fn table() -> ::perf_batch::Table {
                ::perf_batch::Table::new(#table) #(.column(#declared))*
            }
        }
    };

    // One implementation for every database that can encode the fields, so that the output is the
    // same whichever databases are switched on.
    let db = format_ident!("__DB");
    let mut generics = input.generics.clone();
    let param: GenericParam = parse_quote!(#db: ::perf_batch::__private::Database);
    generics.params.push(param);
    let mut types: Vec<&Type> = Vec::new();
    for column in &columns {
        if !types.contains(&column.ty) {
            types.push(column.ty);
        }
    }
    let bounds = generics.make_where_clause();
    for ty in types {
        bounds.predicates.push(parse_quote! {
            #ty: for<'__q> ::perf_batch::__private::Encode<'__q, #db>
                + ::perf_batch::__private::Type<#db>
        });
    }
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let fields = columns.iter().map(|column| column.ident);
    let key_cmp = key_cmp(&columns);
    Ok(quote! {
        #row

        #[automatically_derived]
        impl #impl_generics ::perf_batch::BulkValues<#db> for #ident #type_generics #where_clause {
            fn values<__S: ::perf_batch::ValueSink<#db>>(
                &self,
                sink: &mut __S,
            ) -> ::core::result::Result<(), ::perf_batch::__private::BoxDynError> {
                #(sink.push(&self.#fields)?;)*
                ::core::result::Result::Ok(())
            }

            #key_cmp
        }
    })
}

fn declare(column: &ColumnField<'_>) -> TokenStream {
    let name = &column.name;
    let key = column.key.then(|| quote!(.key()));
    let pg_type = column.pg_type.as_ref().map(|ty| quote!(.pg_type(#ty)));
    quote!(::perf_batch::Column::new(#name) #key #pg_type)
}

fn key_cmp(columns: &[ColumnField<'_>]) -> TokenStream {
    let keys = || columns.iter().filter(|column| column.key);
    if keys().next().is_none() {
        return TokenStream::new();
    }
    let optional = keys().filter(|column| is_option(column.ty));
    let optional = optional.map(|column| column.ident);
    // The span puts the error for a type without an order at the field.
    let compare = keys().map(|column| {
        let field = column.ident;
        quote_spanned! { column.ty.span() =>
            let order = order.then_with(|| ::core::cmp::Ord::cmp(&self.#field, &other.#field));
        }
    });
    quote! {
        fn key_cmp(&self, other: &Self) -> ::core::option::Option<::core::cmp::Ordering> {
            #(
                if self.#optional.is_none() || other.#optional.is_none() {
                    return ::core::option::Option::None;
                }
            )*
            let order = ::core::cmp::Ordering::Equal;
            #(#compare)*
            ::core::option::Option::Some(order)
        }
    }
}

fn is_option(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|last| last.ident == "Option"),
        Type::Group(group) => is_option(&group.elem),
        Type::Paren(paren) => is_option(&paren.elem),
        _ => false,
    }
}
