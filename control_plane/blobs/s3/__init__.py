"""Blobs in a bucket that speaks S3 (AWS, Ceph RGW, MinIO, R2): docs/decisions/0010 says why it is built like this.

    contents/<upload id>      the bytes of a blob, written once, by parts, where they stay: no copy at commit
    blobs/sha256/ab/abcd...   which content is the blob: a small object, written under a condition, after the hash was
                              verified and the content was complete
    uploads/<id>              a growing upload: size, parts, hash, and the bytes that do not fill a part
    trash/<content>           a content that was replaced or deleted; removed an hour later, for those who still read it
    damaged/<digest>-<n>      which content was moved aside because it was not what the records say

Invariant: `blobs/` names only complete contents whose hash was verified, and a content that is named is not removed.
"""
