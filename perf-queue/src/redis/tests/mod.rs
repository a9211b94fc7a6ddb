mod basics;
mod speed;
mod support;
