//! Which values are, byte for byte, what a column takes.

use sqlx::TypeInfo;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgTypeInfo, PgTypeKind};

/// What to change in a value that sqlx encoded for a statement's parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fix {
    /// Nothing.
    Keep,
    /// It is `jsonb`, and the column is `json`, which has no version before the text.
    Json,
    /// It is an array, and the column's has this type of element.
    Element(Oid),
}

const TEXT: u32 = 25;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const JSON: u32 = 114;
const JSONB: u32 = 3802;

/// How a value goes into a column that it is explicitly cast for, if it is; `None` where it would
/// have to be converted.
pub(super) fn fit(value: &PgTypeInfo, column: &PgTypeInfo, cast: Option<&str>) -> Option<Fix> {
    let Some(cast) = cast else {
        return plain(value, column);
    };
    // A cast to another type may change the value on its way, and these two spell a length of 1.
    let shortens = same_name(cast, "char") || same_name(cast, "bit");
    if shortens || !same_name(cast, column.name()) {
        return None;
    }
    let by_text = matches!(kind(column), Some(PgTypeKind::Enum(_))) || is(column, JSON);
    if by_text && is_text(value) {
        return Some(Fix::Keep);
    }
    plain(value, column)
}

/// As an INSERT takes it without a cast.
fn plain(value: &PgTypeInfo, column: &PgTypeInfo) -> Option<Fix> {
    let kind = kind(column)?;
    if matches!(kind, PgTypeKind::Composite(_) | PgTypeKind::Pseudo) {
        return None;
    }
    if value.oid().is_some() && value.oid() == column.oid() {
        return Some(Fix::Keep);
    }
    match kind {
        PgTypeKind::Array(element) => {
            element_fits(value, element).then(|| column_element(element))?
        }
        // Only as an array's element: else the server tells the type under the domain.
        PgTypeKind::Domain(base) => plain(value, base),
        _ if is(value, JSONB) && is(column, JSON) => Some(Fix::Json),
        _ if is_text(value) && takes_text(column) => Some(Fix::Keep),
        PgTypeKind::Simple | PgTypeKind::Enum(_) => {
            (value.oid().is_none() && same_name(value.name(), column.name())).then_some(Fix::Keep)
        }
        _ => None,
    }
}

fn column_element(element: &PgTypeInfo) -> Option<Fix> {
    element.oid().map(Fix::Element)
}

/// Whether `array` has elements that are what `element` takes.
fn element_fits(array: &PgTypeInfo, element: &PgTypeInfo) -> bool {
    match kind(array) {
        Some(PgTypeKind::Array(given)) => plain(given, element) == Some(Fix::Keep),
        Some(_) => false,
        // Of arrays of custom types sqlx knows the name: `mood[]`, by older habit `_mood`.
        None => {
            let name = array.name();
            let given = name.strip_suffix("[]").or_else(|| name.strip_prefix('_'));
            let custom = matches!(
                kind(element),
                Some(PgTypeKind::Simple | PgTypeKind::Enum(_))
            );
            custom && given.is_some_and(|given| same_name(given, element.name()))
        }
    }
}

/// `None` for a type of which only the name or only the OID is known: sqlx panics when asked.
fn kind(ty: &PgTypeInfo) -> Option<&PgTypeKind> {
    (ty.oid().is_some() && ty.name() != "?").then(|| ty.kind())
}

fn is(ty: &PgTypeInfo, oid: u32) -> bool {
    ty.oid() == Some(Oid(oid))
}

fn is_text(value: &PgTypeInfo) -> bool {
    is(value, TEXT) || is(value, VARCHAR) || is_citext(value)
}

/// Not `name`: an INSERT cuts what is too long for one, COPY refuses it.
fn takes_text(column: &PgTypeInfo) -> bool {
    is_text(column) || is(column, BPCHAR)
}

/// The extension's type, in whatever schema it is.
fn is_citext(ty: &PgTypeInfo) -> bool {
    ty.name().rsplit('.').next() == Some("citext")
}

/// Whether the two name one type. The server folds what is not quoted, and says the names of its
/// types without their schema where they need none.
pub(super) fn same_name(a: &str, b: &str) -> bool {
    let quoted = |name: &str| name.contains('"');
    a == b || !quoted(a) && !quoted(b) && a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use sqlx::{Postgres, Type};

    use super::*;

    fn of<T: Type<Postgres>>() -> PgTypeInfo {
        T::type_info()
    }

    #[test]
    fn only_values_in_the_columns_own_format_fit() {
        use sqlx::types::Json;
        let (int, long, text) = (of::<i32>(), of::<i64>(), of::<String>());
        assert_eq!(fit(&long, &long, None), Some(Fix::Keep));
        assert_eq!(fit(&int, &long, None), None);
        assert_eq!(fit(&text, &long, None), None);
        let varchar = PgTypeInfo::with_oid(Oid(VARCHAR));
        assert_eq!(fit(&varchar, &text, None), Some(Fix::Keep));
        let jsonb = of::<Json<i32>>();
        assert_eq!(fit(&text, &jsonb, None), None);
        assert_eq!(fit(&jsonb, &jsonb, None), Some(Fix::Keep));
        let (ints, longs) = (of::<Vec<i32>>(), of::<Vec<i64>>());
        assert_eq!(fit(&ints, &ints, None), Some(Fix::Keep));
        assert_eq!(fit(&ints, &longs, None), None);
        assert_eq!(fit(&int, &ints, None), None);
    }

    #[test]
    fn a_cast_fits_where_it_changes_nothing() {
        let (text, long) = (of::<String>(), of::<i64>());
        assert_eq!(fit(&long, &long, Some("int8")), Some(Fix::Keep));
        assert_eq!(fit(&long, &long, Some("int2")), None);
        assert_eq!(fit(&text, &text, Some("varchar(3)")), None);
    }

    #[test]
    fn a_type_known_by_its_oid_alone_is_compared_by_that() {
        let (by_oid, long) = (PgTypeInfo::with_oid(Oid(20)), of::<i64>());
        assert_eq!(fit(&by_oid, &long, None), Some(Fix::Keep));
        assert_eq!(fit(&by_oid, &of::<i32>(), None), None);
        assert_eq!(fit(&by_oid, &of::<Vec<i64>>(), None), None);
    }

    #[test]
    fn names_fold_unless_quoted() {
        assert!(same_name("Mood", "mood"));
        assert!(same_name("uuid", "UUID"));
        assert!(!same_name("\"Mood\"", "mood"));
        assert!(!same_name("quiz.mood", "mood"));
    }
}
