mod filters;
mod fixture;
mod properties;
mod scores;
