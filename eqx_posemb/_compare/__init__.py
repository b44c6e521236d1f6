"""The experiment behind `eqx-posemb compare`: which embeddings outlast their length."""
