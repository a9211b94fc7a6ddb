//! The behaviour of a cache as its users see it.

#[cfg(test)]
mod api;
#[cfg(test)]
mod history;
#[cfg(test)]
mod hit_ratio;
#[cfg(test)]
mod lifetime;
#[cfg(test)]
mod load;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod low_ratio;
#[cfg(test)]
mod many;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod places;
#[cfg(test)]
#[cfg(feature = "redis")]
mod redis;
#[cfg(test)]
mod resilience;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod tags;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod user_code;
