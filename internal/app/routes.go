package app

import (
	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/dispatch"
)

// routes pairs every declared request with the action that answers it.
func routes(s *action.Server) []dispatch.Route {
	return []dispatch.Route{
		dispatch.Handle(api.SessionNew, s.SessionNew),
		dispatch.Handle(api.SessionExists, s.SessionExists),
		dispatch.Handle(api.SessionList, s.SessionList),
		dispatch.Handle(api.SessionDelete, s.SessionDelete),
		dispatch.Handle(api.SessionDeleteUserID, s.SessionDeleteUserID),
		dispatch.Handle(api.SessionSetInfo, s.SessionSetInfo),
		dispatch.Handle(api.InternalSessionEdit, s.InternalSessionEdit),
		dispatch.Handle(api.UserLogin, s.UserLogin),
		dispatch.Handle(api.UserLogout, s.UserLogout),
		dispatch.Handle(api.UserPasscheck, s.UserPasscheck),
		dispatch.Handle(api.UserPasscheckNoSession, s.UserPasscheckNoSession),
		dispatch.Handle(api.UserNew, s.UserNew),
		dispatch.Handle(api.UserDelete, s.UserDelete),
		dispatch.HandleList(api.UserList, s.UserList),
		dispatch.Handle(api.UserLookupEmail, s.UserLookupEmail),
		dispatch.HandleList(api.UserLookupMatch, s.UserLookupMatch),
		dispatch.Handle(api.UserEdit, s.UserEdit),
		dispatch.Handle(api.UserLock, s.UserLock),
		dispatch.Handle(api.InternalUserLock, s.InternalUserLock),
		dispatch.Handle(api.InternalUserEdit, s.InternalUserEdit),
		dispatch.Handle(api.InternalUserDelete, s.InternalUserDelete),
		dispatch.Handle(api.UserValidatePass, s.UserValidatePass),
		dispatch.Handle(api.UserChangePass, s.UserChangePass),
		dispatch.Handle(api.UserChangePassNoSession, s.UserChangePassNoSession),
		dispatch.Handle(api.UserResetPass, s.UserResetPass),
		dispatch.Handle(api.UserResetPassNoSession, s.UserResetPassNoSession),
		dispatch.Handle(api.UserSendEmailSignUp, s.UserSendEmailSignUp),
		dispatch.Handle(api.UserSendEmailForgotPass, s.UserSendEmailForgotPass),
		dispatch.Handle(api.UserNewEmailToken, s.UserNewEmailToken),
		dispatch.Handle(api.UserCheckEmailToken, s.UserCheckEmailToken),
		dispatch.Handle(api.UserSetEmailVerified, s.UserSetEmailVerified),
		dispatch.Handle(api.UserSetEmailSent, s.UserSetEmailSent),
		dispatch.Handle(api.APIKeyNew, s.APIKeyNew),
		dispatch.Handle(api.APIKeyVerify, s.APIKeyVerify),
		dispatch.Handle(api.APIKeyRevoke, s.APIKeyRevoke),
		dispatch.Handle(api.APIKeyList, s.APIKeyList),
		dispatch.Handle(api.APIKeyNewNoSession, s.APIKeyNewNoSession),
		dispatch.Handle(api.APIKeyVerifyNoSession, s.APIKeyVerifyNoSession),
		dispatch.Handle(api.APIKeyRevokeNoSession, s.APIKeyRevokeNoSession),
		dispatch.Handle(api.APIKeyRevokeAllNoSession, s.APIKeyRevokeAllNoSession),
		dispatch.Handle(api.APIKeyRefreshNoSession, s.APIKeyRefreshNoSession),
		dispatch.Handle(api.UserCheckAccess, s.UserCheckAccess),
		dispatch.Handle(api.UserCheckLimit, s.UserCheckLimit),
		dispatch.Handle(api.UserCountLimit, s.UserCountLimit),
		dispatch.Handle(api.Check, s.Check),
		dispatch.Handle(api.EventList, s.EventList),
	}
}
