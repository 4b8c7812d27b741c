//! Lists of one type out of several, tables that find them, and tensors read as numbers.

use std::borrow::Cow;
use std::collections::HashMap;
use tract_onnx::tract_hir::internal::*;

/// Values of an attribute. Narrow types are held in the widest of their kind, with the type that they had.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalars {
    Ints(Vec<i64>, DatumType),
    Reals(Vec<f64>, DatumType),
    Strings(Vec<String>),
}

impl Scalars {
    pub(super) fn ints(values: Vec<i64>) -> Self {
        Self::Ints(values, i64::datum_type())
    }

    pub(super) fn floats(values: Vec<f32>) -> Self {
        Self::Reals(values.into_iter().map(f64::from).collect(), f32::datum_type())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ints(values, _) => values.len(),
            Self::Reals(values, _) => values.len(),
            Self::Strings(values) => values.len(),
        }
    }

    pub(super) fn dtype(&self) -> DatumType {
        match self {
            Self::Ints(_, dtype) | Self::Reals(_, dtype) => *dtype,
            Self::Strings(_) => String::datum_type(),
        }
    }

    /// The real numbers of the attribute `name`.
    pub(super) fn reals(self, name: &str) -> TractResult<Vec<f64>> {
        match self {
            Self::Reals(values, _) => Ok(values),
            other => bail!("attribute `{name}` holds {:?} instead of floating-point numbers", other.dtype()),
        }
    }

    /// The values at some places, `default`'s first where there is no place, as a tensor.
    pub(super) fn take(&self, at: &[Option<usize>], default: &Self, shape: &[usize]) -> TractResult<Tensor> {
        fn pick<T: Clone>(values: &[T], at: &[Option<usize>], default: &[T]) -> TractResult<Vec<T>> {
            let one = |at: &Option<usize>| at.map_or_else(|| default.first(), |at| values.get(at)).cloned();
            at.iter().map(|at| one(at).ok_or_else(|| format_err!("no value for a label"))).collect()
        }
        match (self, default) {
            (Self::Ints(values, dtype), Self::Ints(default, _)) => {
                let tensor = Tensor::from_shape(shape, &pick(values, at, default)?)?;
                Ok(tensor.cast_to_dt(*dtype)?.into_owned())
            }
            (Self::Reals(values, dtype), Self::Reals(default, _)) => {
                let tensor = Tensor::from_shape(shape, &pick(values, at, default)?)?;
                Ok(tensor.cast_to_dt(*dtype)?.into_owned())
            }
            (Self::Strings(values), Self::Strings(default)) => strings(shape, pick(values, at, default)?),
            _ => bail!("the default is {:?}, the values are {:?}", default.dtype(), self.dtype()),
        }
    }
}

/// A tensor of strings.
pub(super) fn strings(shape: &[usize], values: Vec<String>) -> TractResult<Tensor> {
    Ok(tract_ndarray::ArrayD::from_shape_vec(shape, values)?.into_tensor())
}

/// Finds a key's place. The first of equal keys counts.
#[derive(Debug, Clone)]
pub(super) enum Places {
    Ints(HashMap<i64, usize>),
    /// By bits, after [`canonical`].
    Reals(HashMap<u64, usize>),
    Strings(HashMap<String, usize>),
}

/// Bits that are equal for equal numbers: both zeros are one, and all NaN are one, as `LabelEncoder` wants it.
fn canonical(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

impl Places {
    pub(super) fn new(keys: &Scalars) -> Self {
        fn index<K: Hash + Eq>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
            let mut places = HashMap::new();
            for (key, at) in keys.zip(0..) {
                places.entry(key).or_insert(at);
            }
            places
        }
        match keys {
            Scalars::Ints(keys, _) => Self::Ints(index(keys.iter().copied())),
            Scalars::Reals(keys, _) => Self::Reals(index(keys.iter().map(|key| canonical(*key)))),
            Scalars::Strings(keys) => Self::Strings(index(keys.iter().cloned())),
        }
    }

    /// The place of each element of a tensor. Numbers are converted to the keys' kind, towards zero.
    pub(super) fn find(&self, tensor: &Tensor) -> TractResult<Vec<Option<usize>>> {
        Ok(match self {
            Self::Ints(places) => {
                let ints = tensor.cast_to::<i64>()?;
                let ints = ints.try_as_plain_ram()?.as_slice::<i64>()?;
                ints.iter().map(|key| places.get(key).copied()).collect()
            }
            Self::Reals(places) => {
                let reals = tensor.cast_to::<f64>()?;
                let reals = reals.try_as_plain_ram()?.as_slice::<f64>()?;
                reals.iter().map(|key| places.get(&canonical(*key)).copied()).collect()
            }
            Self::Strings(places) => {
                let texts = tensor.try_as_plain_ram()?.as_slice::<String>()?;
                texts.iter().map(|key| places.get(key).copied()).collect()
            }
        })
    }

    /// Whether a tensor of this type can be looked up.
    pub(super) fn takes(&self, dtype: DatumType) -> bool {
        match self {
            Self::Strings(_) => dtype == String::datum_type(),
            _ => is_number(dtype),
        }
    }
}

pub(super) fn is_number(dtype: DatumType) -> bool {
    dtype.is_float() || dtype.is_integer() || dtype == DatumType::TDim || dtype == DatumType::Bool
}

/// The elements as `T`: borrowed where they are of that type already.
pub(super) fn numbers<T: Datum + Copy>(value: &TValue) -> TractResult<Cow<'_, [T]>> {
    if value.datum_type() == T::datum_type() {
        return Ok(Cow::Borrowed(value.try_as_plain_ram()?.as_slice::<T>()?));
    }
    let cast = value.cast_to::<T>()?;
    Ok(Cow::Owned(cast.try_as_plain_ram()?.as_slice::<T>()?.to_vec()))
}

/// The names of classes.
pub(super) fn labels(ints: Option<Vec<i64>>, strings: Option<Vec<String>>) -> TractResult<Scalars> {
    match (ints, strings) {
        (Some(ints), None) => Ok(Scalars::ints(ints)),
        (None, Some(strings)) => Ok(Scalars::Strings(strings)),
        (None, None) => bail!("neither integers nor strings name the classes"),
        (Some(_), Some(_)) => bail!("both integers and strings name the classes"),
    }
}
