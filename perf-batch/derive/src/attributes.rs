//! What the `#[bulk(..)]` attributes say.

use syn::meta::ParseNestedMeta;
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, Ident, LitStr, Path, Result, Type,
    parse_quote,
};

/// A field that is a column.
pub(crate) struct ColumnField<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) ty: &'a Type,
    pub(crate) name: String,
    pub(crate) key: bool,
    pub(crate) pg_type: Option<LitStr>,
}

/// What the struct's attributes say.
pub(crate) struct Container {
    pub(crate) table: LitStr,
    /// The path of perf-batch.
    pub(crate) krate: Path,
}

impl Container {
    pub(crate) fn of(input: &DeriveInput) -> Result<Self> {
        let (mut table, mut krate) = (None, None);
        each(&input.attrs, |meta| {
            if meta.path.is_ident("table") {
                once(&mut table, text(&meta)?, &meta)
            } else if meta.path.is_ident("crate") {
                once(&mut krate, text(&meta)?.parse()?, &meta)
            } else {
                Err(meta.error(
                    "unknown attribute, the struct takes `table = \"..\"`, `crate = \"..\"`",
                ))
            }
        })?;
        let table = table.ok_or_else(|| {
            Error::new_spanned(
                &input.ident,
                "which table do the rows go to? add `#[bulk(table = \"..\")]`",
            )
        })?;
        let krate = krate.unwrap_or_else(|| parse_quote!(::perf_batch));
        Ok(Self { table, krate })
    }
}

/// The columns, in the order of the fields.
pub(crate) fn columns(input: &DeriveInput) -> Result<Vec<ColumnField<'_>>> {
    let named = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => Some(&fields.named),
            _ => None,
        },
        _ => None,
    };
    let fields = named.ok_or_else(|| {
        Error::new_spanned(
            &input.ident,
            "BulkRow needs a struct with named fields, each of which is a column",
        )
    })?;
    let mut columns: Vec<ColumnField<'_>> = Vec::with_capacity(fields.len());
    for field in fields {
        let Some(column) = column(field)? else {
            continue;
        };
        if columns.iter().any(|other| other.name == column.name) {
            let message = format!("column {:?} is there twice", column.name);
            return Err(Error::new_spanned(field, message));
        }
        columns.push(column);
    }
    if columns.is_empty() {
        return Err(Error::new_spanned(
            &input.ident,
            "no field is left to be a column",
        ));
    }
    Ok(columns)
}

/// `None` for a field that is skipped.
fn column(field: &Field) -> Result<Option<ColumnField<'_>>> {
    let (mut key, mut skip) = (None, None);
    let (mut rename, mut pg_type) = (None, None);
    each(&field.attrs, |meta| {
        if meta.path.is_ident("key") {
            once(&mut key, (), &meta)
        } else if meta.path.is_ident("skip") {
            once(&mut skip, (), &meta)
        } else if meta.path.is_ident("rename") {
            once(&mut rename, text(&meta)?, &meta)
        } else if meta.path.is_ident("pg_type") {
            once(&mut pg_type, text(&meta)?, &meta)
        } else {
            Err(meta.error(
                "unknown attribute, a field takes `key`, `skip`, `rename = \"..\"`, `pg_type = \"..\"`",
            ))
        }
    })?;
    if skip.is_some() {
        if key.is_some() || rename.is_some() || pg_type.is_some() {
            return Err(Error::new_spanned(
                field,
                "a skipped field is no column, so `skip` stands alone",
            ));
        }
        return Ok(None);
    }
    let Some(ident) = &field.ident else {
        return Ok(None);
    };
    let name = rename.map_or_else(
        || {
            let name = ident.to_string();
            name.strip_prefix("r#").map_or(name.clone(), str::to_owned)
        },
        |name| name.value(),
    );
    Ok(Some(ColumnField {
        ident,
        ty: &field.ty,
        name,
        key: key.is_some(),
        pg_type,
    }))
}

fn each(
    attrs: &[Attribute],
    mut logic: impl FnMut(ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("bulk")) {
        attr.parse_nested_meta(&mut logic)?;
    }
    Ok(())
}

fn once<T>(slot: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if slot.replace(value).is_some() {
        return Err(meta.error("given twice"));
    }
    Ok(())
}

fn text(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let text: LitStr = meta.value()?.parse()?;
    if text.value().trim().is_empty() {
        return Err(Error::new(text.span(), "must not be empty"));
    }
    Ok(text)
}
